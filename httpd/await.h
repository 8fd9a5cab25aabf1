/* SPDX-License-Identifier: MIT */
/* How long a request may be held, and waiting for a name that does not exist yet, or for a store
 * that is slow. */
#ifndef HTTPD_AWAIT_H
#define HTTPD_AWAIT_H

#include "httpd/request.h"

/* Sets rq->wait_until_ms from Prefer: wait and --hold-timeout; true when the client asked. */
bool await_limit(struct request *rq);
bool await_is_over(const struct request *rq);

/* What -EAGAIN was said of, the store takes its time for, and so another look has to wait. 0 to
 * look again, 1 when held, -EAGAIN when the time is over, -ECANCELED when the client left. */
int await_store(struct request *rq);

/* Follows live (a reference that is taken over) instead of what rq followed before. */
void request_follow(struct request *rq, struct live *live);

/* Until rq->name exists. 0 with rq->resource open, 1 when held, or negative errno: -ENOENT when
 * the time is over, -ECANCELED when the client left. */
int await_name(struct request *rq);

#endif
