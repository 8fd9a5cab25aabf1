/* SPDX-License-Identifier: MIT */
/* GET and HEAD of files that are growing or aborted: the table of DESIGN section 6. */
#ifndef HTTPD_GROWING_H
#define HTTPD_GROWING_H

#include "httpd/request.h"

/* rq->resource is an open file in one of these states. *ret_complete is set, and nothing answered,
 * when the file turned out to be complete by now. */
enum MHD_Result growing_answer(struct request *rq, bool *ret_complete);

#endif
