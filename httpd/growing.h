/* SPDX-License-Identifier: MIT */
/* GET and HEAD of files that are growing or aborted: the table of DESIGN section 6. */
#ifndef HTTPD_GROWING_H
#define HTTPD_GROWING_H

#include "httpd/request.h"

/* rq->resource is an open file in one of these states. *ret_again is set, and nothing answered,
 * when the file is complete by now or started over: open it again. */
enum MHD_Result growing_answer(struct request *rq, bool *ret_again);

#endif
