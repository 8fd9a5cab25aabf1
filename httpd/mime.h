/* SPDX-License-Identifier: MIT */
/*
 * Media types by file name: the system's table (mime.types(5)), preceded by a few types of live
 * media that it lacks or knows as something else, followed by a small fallback for machines
 * without one. Built once, then read-only: any thread.
 */
#ifndef HTTPD_MIME_H
#define HTTPD_MIME_H

#include <stdbool.h>

#define MIME_TYPES "/etc/mime.types" /* the default */

struct mime;

/* file may be missing: the built-in table is used, with a warning unless it is the default.
 * NULL when out of memory. */
struct mime *mime_new(const char *file);
void mime_free(struct mime *mime);

/* Never NULL: "application/octet-stream" for what is not known. Text has a charset. */
const char *mime_of_name(const struct mime *mime, const char *name);

/* One line of mime.types(5): fn(type, extension) for each extension. Changes line. */
void mime_parse_line(char *line, void (*fn)(void *, const char *, const char *), void *data);

#endif
