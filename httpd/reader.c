/* SPDX-License-Identifier: MIT */
#include "httpd/reader.h"

#include <errno.h>

#include "httpd/client.h"
#include "httpd/clock.h"
#include "httpd/server.h"

#define AGAIN_MS 200 /* between questions, each of which the mount may think about for 20 ms */
#define LOOKS    4   /* at who takes nothing, before he has taken nothing for too long */

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

bool reader_may_end(struct request *rq, bool *ret_held)
{
	int cut;

	*ret_held = false;
	while ((cut = resource_was_cut(&rq->resource, &rq->doubts)) == -EAGAIN) {
		*ret_held = !reader_looks_again(rq, follow_delay(&rq->waiter, AGAIN_MS));
		if (*ret_held || rq->outcome != OUTCOME_OK)
			return false;
	}
	if (cut)
		reader_note_cut(rq, OUTCOME_ABORTED);
	return !cut;
}

/* What the client acknowledges moves, too. */
static uint64_t idle_since_it_moved(struct request *rq, uint64_t moved_ms)
{
	uint64_t acknowledged = client_arrived(rq->client->socket), now = clock_ms();

	if (rq->acknowledged != acknowledged) {
		rq->acknowledged = acknowledged;
		rq->acknowledged_ms = now;
	}
	return now - (rq->acknowledged_ms > moved_ms ? rq->acknowledged_ms : moved_ms);
}

bool reader_waits_for_room(struct request *rq, uint64_t moved_ms)
{
	uint64_t limit = rq->server->options->idle_timeout_ms, look, idle;

	if (!limit)
		limit = UINT32_MAX;
	look = limit / LOOKS + 1;
	idle = clock_ms() - moved_ms;
	if (idle >= look)
		idle = idle_since_it_moved(rq, moved_ms);
	if (idle >= limit) {
		rq->outcome = OUTCOME_TIMEOUT;
		return true;
	}
	return reader_looks_again(
		rq, follow_writable(&rq->waiter, limit - idle < look ? limit - idle : look));
}
