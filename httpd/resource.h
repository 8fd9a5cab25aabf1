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
	int fd;           /* ROOT_READ for a file, O_RDONLY for a directory; -1: not open */
	struct stat st;   /* what kind, how long and when changed; the rest is 0 */
	enum state state; /* STATE_PLAIN for directories and where there are no states */
	uint64_t cuts;    /* of struct progress, when the file has a state */
	char *data;       /* all st.st_size bytes, as they were at that moment; NULL: not read */
};

#define RESOURCE_SMALL 32768 /* header and body in one send beat sendfile up to about here */

/*
 * -EACCES for what is neither file nor directory; other negative errno of open(2). With data, that
 * of a small file with a state comes along, if it is complete: then the mount is asked once, after
 * the read, instead of before and after.
 */
int resource_open(const struct server *s, const char *name, bool with_data, struct resource *ret);
void resource_close(struct resource *r);

/* Whether a file that was complete has begun to change: what was read meanwhile may be of both.
 * False where there are no states: there a file is as it lies. */
bool resource_changed(const struct resource *r);
/* The same, but growth alone is no harm to who knows how much he wants. */
bool resource_was_cut(const struct resource *r);

/* Whether files with this st_dev may have a state; fd is any file of that kind. */
bool resource_may_grow(const struct server *s, int fd, const struct stat *st);

#endif
