/* SPDX-License-Identifier: MIT */
#include "httpd/reader.h"

#include <errno.h>

#include "httpd/client.h"
#include "httpd/clock.h"
#include "httpd/server.h"

/*
 * libmicrohttpd 0.9 forgets a connection that a reader ends with MHD_CONTENT_READER_END_*: it is
 * closed, but nobody looks at it again, so that its descriptor stays until another connection of
 * that thread times out. A failing send is handled at once. So the socket is shut first, and the
 * byte that is returned cannot leave.
 */
ssize_t reader_stop(const struct request *rq, char *buf)
{
	client_shut(rq->client->socket);
	buf[0] = '\0';
	return 1;
}

ssize_t reader_finish(struct request *rq, char *buf)
{
	rq->finished = true;
	client_drain(rq->client->socket);
	return reader_stop(rq, buf);
}

void reader_note_cut(struct request *rq, enum outcome why)
{
	if (rq->outcome == OUTCOME_OK && why == OUTCOME_ABORTED)
		atomic_fetch_add(&rq->server->metrics.cuts, 1);
	rq->outcome = why;
}

ssize_t reader_cut(struct request *rq, enum outcome why, char *buf)
{
	reader_note_cut(rq, why);
	return reader_stop(rq, buf);
}

void reader_note_gone(struct request *rq)
{
	rq->outcome = atomic_load(&rq->server->draining) ? OUTCOME_STOPPED : OUTCOME_GONE;
}

int reader_held(struct request *rq, enum hold hold)
{
	if (hold == HOLD_GONE) {
		reader_note_gone(rq);
		return -ECANCELED;
	}
	return hold == HOLD_HELD;
}

bool reader_looks_again(struct request *rq, enum hold hold)
{
	if (hold == HOLD_GONE)
		reader_note_gone(rq);
	return hold != HOLD_HELD;
}

bool reader_waits_for_room(struct request *rq, uint64_t moved_ms)
{
	uint64_t limit = rq->server->options->idle_timeout_ms, idle = clock_ms() - moved_ms;

	if (!limit)
		limit = UINT32_MAX;
	if (idle >= limit) {
		rq->outcome = OUTCOME_TIMEOUT;
		return true;
	}
	return reader_looks_again(rq, follow_writable(&rq->waiter, limit - idle));
}
