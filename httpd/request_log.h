/* SPDX-License-Identifier: MIT */
/* What access log and metrics hear of a request that ended, and of what became none. Worker's
 * thread. */
#ifndef HTTPD_REQUEST_LOG_H
#define HTTPD_REQUEST_LOG_H

#include <microhttpd.h>

struct client;
struct request;
struct server;

void request_log(struct request *rq, enum MHD_RequestTerminationCode how);

/* The connection closes. What it sent after its last request gets a line of its own, and an answer,
 * unless the library gave one: that (0.9.75) tells nothing of a first line that it cannot read, or
 * that does not end, and closes after most of them without a word. */
void request_unread(struct server *s, struct client *client);

#endif
