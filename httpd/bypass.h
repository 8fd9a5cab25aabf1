/* SPDX-License-Identifier: MIT */
/*
 * The last answer of a connection, sent past the library: while a body still comes, when a request
 * leaves the library no memory for an answer, and where it would close without one. What it sent
 * before is with the kernel. Worker's thread.
 */
#ifndef HTTPD_BYPASS_H
#define HTTPD_BYPASS_H

#include <stdbool.h>
#include <sys/types.h>

struct client;
struct server;

/* A line of text says the status once more, but not to a HEAD. The bytes of that text, or -1 when
 * not all of the answer is with the kernel at once. */
ssize_t bypass_send(
	const struct server *s, const struct client *client, unsigned status, bool head);

#endif
