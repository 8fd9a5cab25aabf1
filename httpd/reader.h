/* SPDX-License-Identifier: MIT */
/*
 * What the content readers have in common that decide about their connection themselves: how one is
 * ended, and how a reader waits. In the worker thread of the request, from the reader alone.
 */
#ifndef HTTPD_READER_H
#define HTTPD_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "httpd/follow.h"
#include "httpd/request.h"

/* Ends the connection; what was sent still arrives. The reader returns what this returns. */
ssize_t reader_stop(const struct request *rq, char *buf);

/* The same when all is sent, of which the library does not know. */
ssize_t reader_finish(struct request *rq, char *buf);

/* The answer will not be whole: for the log and the metrics. */
void reader_note_cut(struct request *rq, enum outcome why);

/* Both. */
ssize_t reader_cut(struct request *rq, enum outcome why, char *buf);

/* After HOLD_GONE: the client left, or this server stops. */
void reader_note_gone(struct request *rq);

/* Before there is a reader, what a hold came to: 0 to look again, 1 when the request is held, and
 * after HOLD_GONE -ECANCELED, which no filesystem answers (-ECONNABORTED: a mount that went away).
 */
int reader_held(struct request *rq, enum hold hold);

/* True when it is time to look again, false when the request is held: the reader returns 0. */
bool reader_looks_again(struct request *rq, enum hold hold);

/* Before the end of the body of a complete file: whether it was sent as it is. If not, the request
 * is held and the reader returns 0, or it stops; rq->outcome says why. */
bool reader_may_end(struct request *rq, bool *ret_held);

/* The same, held until the socket takes more, which it did last at moved_ms (clock_ms()): the
 * library's idle time-out does not see what goes past it. Until the socket takes more, one who
 * reads slowly may need longer than that time-out; he is not idle. */
bool reader_waits_for_room(struct request *rq, uint64_t moved_ms);

#endif
