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
	int fd; /* O_RDONLY | O_NONBLOCK for a file, O_RDONLY for a directory; -1: not open */
	struct stat st;
	enum state state; /* STATE_PLAIN for directories */
};

/* -EACCES for what is neither file nor directory; other negative errno of open(2). */
int resource_open(const struct server *s, const char *name, struct resource *ret);
void resource_close(struct resource *r);

/* Whether files with this st_dev may have a state; fd is any file of that kind. */
bool resource_may_grow(const struct server *s, int fd, const struct stat *st);

#endif
