/* SPDX-License-Identifier: MIT */
/*
 * A long part of a complete file. libmicrohttpd would send it 128 KiB at a time, and leave no
 * moment in which an end could be kept back. So it goes past the library, and the last byte follows
 * when the mount has said that nothing was taken back meanwhile. As the library does not know what
 * was sent, the body ends with its connection, which the client is told beforehand. Not over TLS.
 */
#ifndef HTTPD_BODY_LONG_H
#define HTTPD_BODY_LONG_H

#include <microhttpd.h>
#include <stdint.h>

#include "httpd/request.h"

#define BODY_LONG ((uint64_t)16 << 20) /* from here on a new connection does not count */

/* NULL when out of memory. Reads from rq->resource. */
struct MHD_Response *body_long(struct request *rq, uint64_t first, uint64_t length);

#endif
