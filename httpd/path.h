/* SPDX-License-Identifier: MIT */
/*
 * From the request target to a path below the root, and back to a URL. Pure, any thread.
 * The result never begins with '/', never has an empty, "." or ".." segment and never a NUL:
 * "" is the root itself. That nothing outside the root is reached through symlinks is the
 * business of root.c.
 */
#ifndef HTTPD_PATH_H
#define HTTPD_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct path {
	char name[PATH_MAX]; /* relative, normalised */
	size_t len;
	bool directory; /* the target ended in '/' */
	bool hidden;    /* a segment begins with '.' */
};

/* target: origin-form or absolute-form (RFC 9112 section 3.2), percent-encoded, up to its query.
 * 0; -EINVAL for a malformed encoding, an encoded NUL or ".." above the root; -ENAMETOOLONG. */
int path_parse(const char *target, struct path *ret);

/* Percent-encodes name for use as URL path into buf; false when it does not fit. Every byte
 * but unreserved characters, '/' and a few harmless ones is encoded, so the result needs no
 * further escaping in HTML, JSON or a header. */
bool path_encode(const char *name, char *buf, size_t size);

/* The part of name behind its last '/'. */
const char *path_base(const char *name);

/* Length of the directory part of name, without the '/': 0 when the root is its parent. */
size_t path_parent_len(const char *name);

#endif
