/* SPDX-License-Identifier: MIT */
/* GET and HEAD of complete files (RFC 9110): conditions, ranges, validators. */
#ifndef HTTPD_COMPLETE_H
#define HTTPD_COMPLETE_H

#include "httpd/range.h"
#include "httpd/request.h"
#include "httpd/validator.h"

/* rq->resource is an open file. *ret_again: no answer, it has begun to change; open it again. */
enum MHD_Result complete_answer(struct request *rq, bool *ret_again);

/* What growing files share with complete ones; an enum condition_result, or -ENOMEM. */
int request_conditions(struct request *rq, const struct validator *v, bool *ret_range_counts);
bool request_range(const struct request *rq, struct range_set *ret);
const char *request_type(const struct request *rq);
enum MHD_Result reply_not_modified(struct request *rq, const struct validator *v);
enum MHD_Result reply_unsatisfiable(struct request *rq, uint64_t size);

#endif
