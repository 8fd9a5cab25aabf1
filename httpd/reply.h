/* SPDX-License-Identifier: MIT */
/*
 * Answers: the one place that queues them, and that turns errors of the system into a status.
 * Each function returns what the access handler shall return; MHD_NO cuts the connection.
 */
#ifndef HTTPD_REPLY_H
#define HTTPD_REPLY_H

#include <microhttpd.h>

#include "httpd/request.h"
#include "httpd/text.h"

/* Adds what every answer carries, queues it and drops the caller's reference. r may be NULL: out of
 * memory. */
enum MHD_Result reply_send(struct request *rq, unsigned status, struct MHD_Response *r);

/* Out of memory leaves the header away, and the answer is refused by reply_send(). */
void reply_header(struct MHD_Response *r, const char *name, const char *value);
void reply_headerf(struct MHD_Response *r, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A line of text for people: the reason phrase and why. why may be NULL. */
enum MHD_Result reply_error(struct request *rq, unsigned status, const char *why);
/* 400 for a request of which it is not sure where it ends: no other is taken from its connection.
 */
enum MHD_Result reply_refused(struct request *rq, const char *why);
/* For a negative errno; what a client cannot have caused is logged. */
enum MHD_Result reply_errno(struct request *rq, int error);
/* While the body of the request still comes (RFC 9110 section 15.6: the client need not send the
 * rest). MHD_NO when the client cannot be told. */
enum MHD_Result reply_early(struct request *rq, int error);
/* The last answer of its connection, which the library does not hear of (bypass.h). */
bool reply_bypass(struct request *rq, unsigned status);
/* 431 for a request that leaves the library no memory for an answer. */
enum MHD_Result reply_too_large(struct request *rq);
enum MHD_Result reply_empty(struct request *rq, unsigned status);
/* Status and Location of name (not encoded yet), with a slash at its end when directory. */
enum MHD_Result reply_redirect(struct request *rq, unsigned status, const char *name);
/* For HEAD and 304: what tells of so many bytes, or MHD_SIZE_UNKNOWN, and has none. The latter is
 * the last answer of its connection. */
struct MHD_Response *reply_without_content(struct request *rq, uint64_t length);
/* Takes t's text over. */
struct MHD_Response *reply_text_response(struct text *t, const char *type);

/* The status of reply_errno(). */
unsigned reply_status_of_errno(int error);

#endif
