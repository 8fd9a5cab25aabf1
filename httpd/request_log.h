/* SPDX-License-Identifier: MIT */
/* What access log and metrics hear of a request that ended. Worker's thread. */
#ifndef HTTPD_REQUEST_LOG_H
#define HTTPD_REQUEST_LOG_H

#include <microhttpd.h>

struct request;

void request_log(struct request *rq, enum MHD_RequestTerminationCode how);

#endif
