/* SPDX-License-Identifier: MIT */
/*
 * What a name means: an open file or directory below the root, and its state. Opened without
 * side effects first (O_PATH), so that no fifo, device or socket is ever touched.
 */
#ifndef HTTPD_RESOURCE_H
#define HTTPD_RESOURCE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "httpd/state.h"

struct server;

struct resource {
	int fd;               /* ROOT_READ for a file, O_RDONLY for a directory; -1: not open */
	struct stat st;       /* what kind, how long and when changed; the rest is 0 */
	enum state state;     /* STATE_PLAIN for directories and where there are no states */
	struct progress told; /* by the mount, of a file that has a state; nothing is 0 */
	char *data; /* all st.st_size bytes, as they were at that moment; NULL: not read */
};

#define RESOURCE_SMALL ((size_t)32 << 10) /* up to about here a copy beats sendfile(2) anyhow */
#define RESOURCE_DATA  ((size_t)1 << 20)  /* and here when all of it goes out in one send */

/*
 * -EACCES for what is neither file nor directory; other negative errno of open(2). The data of a
 * complete file with a state comes along if there are at most data_max bytes, RESOURCE_DATA at
 * most: then the mount is asked once, after the read, instead of before and after. What is more
 * than RESOURCE_SMALL does not while many others have theirs.
 */
int resource_open(const struct server *s, const char *name, size_t data_max, struct resource *ret);
/* Looks at the file of r afresh, whatever has its name by now; unchanged on failure. */
int resource_open_again(const struct server *s, size_t data_max, struct resource *r);
void resource_close(struct resource *r);

/* Whether a file that was complete has begun to change: what was read meanwhile may be of both.
 * False where there are no states: there a file is as it lies. */
bool resource_changed(const struct resource *r);
/* The same, but growth is no harm to who knows how much he wants. 1, 0, or -EAGAIN: not to be told
 * yet. doubts, of one body from look to look, begins with 0. */
int resource_was_cut(const struct resource *r, unsigned *doubts);

/* Whether files with this st_dev may have a state; fd is any file of that kind. 1, 0, or -errno. */
int resource_may_grow(const struct server *s, int fd, const struct stat *st);

#endif
