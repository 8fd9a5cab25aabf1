/* SPDX-License-Identifier: MIT */
/*
 * Bodies of answers that come from files. Each function returns a response without headers, or
 * NULL: out of memory, or a file that cannot be read. Content readers run in the worker of their
 * request and live no longer than it.
 */
#ifndef HTTPD_BODY_H
#define HTTPD_BODY_H

#include <microhttpd.h>

#include "httpd/range.h"
#include "httpd/request.h"

/* Part of a complete file, by sendfile unless it is small. The descriptor stays the
 * request's. */
struct MHD_Response *body_of_file(struct request *rq, uint64_t first, uint64_t length);

/* Several parts of a complete file as multipart/byteranges; the descriptor stays the request's. */
struct MHD_Response *body_of_parts(struct request *rq, const struct range_parts *parts,
	uint64_t size, const char *type, const char *boundary);

/* From byte first of rq->live on: length bytes, or with MHD_SIZE_UNKNOWN as many as come, up to
 * byte last. Waits at the live edge; cuts the connection when the writer failed, the file ends
 * short of length, or what was said of it (view) turns out wrong. */
struct MHD_Response *body_of_live(struct request *rq, const struct live_view *view, uint64_t first,
	uint64_t last, uint64_t length);

#endif
