/* SPDX-License-Identifier: MIT */
#include "httpd/body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "httpd/body_long.h"
#include "httpd/client.h"
#include "httpd/clock.h"
#include "httpd/push.h"
#include "httpd/reader.h"
#include "httpd/reply.h"
#include "httpd/server.h"

#define BLOCK     32768
#define NO_BLOCK  16    /* chunks are read into the connection's own buffer */
#define FAR       16384 /* so much behind the edge, bytes go past the library */
#define DRAIN_MS  20    /* between looks at the socket before a reset */
#define DRAIN_MAX 500   /* looks: ten seconds */
#define LATER_MS  200   /* between questions, each of which the mount may think about for 20 ms */

/* What push_growth() needs stands at its beginning, in one line of the processor's cache. */
struct live_body {
	struct request *rq;
	uint64_t end;               /* one past the last byte that may be sent */
	uint64_t pushed, pushed_ms; /* bytes that the library does not know of, and when */
	bool chunked, has_length, flushed;
	bool may_push; /* past the library; with a length the connection ends with it */
	bool declared; /* its client was told the size that the writer had declared, */
	unsigned drained;
	uint64_t promise; /* this one */
	uint64_t first;
	struct push push;
};

/* Only a reset tells the end of a close-delimited body from its whole; but a reset also throws
 * away what the client has not got yet, so that goes out first, if it takes anything at all. */
static ssize_t cut_by_reset(struct live_body *b, char *buf)
{
	struct request *rq = b->rq;

	if (rq->outcome != OUTCOME_TIMEOUT && client_unsent(rq->client->socket) &&
		b->drained++ < DRAIN_MAX && follow_delay(&rq->waiter, DRAIN_MS) == HOLD_HELD)
		return 0;
	client_reset(rq->client->socket);
	return reader_stop(rq, buf);
}

static ssize_t cut(struct live_body *b, enum outcome why, char *buf)
{
	if (!b->rq->close_delimited)
		return reader_cut(b->rq, why, buf);
	reader_note_cut(b->rq, why);
	return cut_by_reset(b, buf);
}

/* Neither were bytes taken back, as far as the mount still tells, nor is the file longer than its
 * client was told. */
static bool is_true(const struct live_body *b, const struct live_view *view)
{
	if (view->truncated || view->lost)
		return false;
	if (!b->declared)
		return true;
	return view->state == STATE_COMPLETE ? view->edge == b->promise
					     : view->declared && view->size == b->promise;
}

/* All that was promised may be there, and its writer have failed all the same. */
static bool would_hide_failure(const struct live_body *b, const struct live_view *view)
{
	return view->state == STATE_ABORTED && b->declared && b->end == b->promise;
}

/* Before a body may end well the mount is asked once more: the follow thread may have been slower
 * than a writer who began anew, and what was read then may be of another file. False when the
 * request is held, since the mount cannot tell yet. */
static bool ask_once_more(struct live_body *b, struct live_view *ret)
{
	struct request *rq = b->rq;

	while (!live_look(rq->live, ret) && rq->outcome == OUTCOME_OK)
		if (!reader_looks_again(rq, follow_delay(&rq->waiter, LATER_MS)))
			return false;
	return true;
}

/* The clean end. Over TLS only the library can say it. */
static ssize_t finish(struct live_body *b, char *buf)
{
	struct live_view view;

	if (!b->has_length && !ask_once_more(b, &view))
		return 0;
	if (b->rq->outcome != OUTCOME_OK)
		return cut(b, b->rq->outcome, buf);
	if (!b->has_length && !is_true(b, &view))
		return cut(b, OUTCOME_ABORTED, buf);
	if (b->rq->close_delimited)
		client_set_close_delimited(&b->rq->server->clients, b->rq->client, false);
	if (b->chunked || b->rq->server->tls)
		return MHD_CONTENT_READER_END_OF_STREAM;
	return reader_finish(b->rq, buf);
}

/* What was sent so far is the header, which libmicrohttpd holds back to join it with a body: the
 * client shall have it now. */
static void flush(struct live_body *b)
{
	if (!b->flushed)
		client_flush(b->rq->client->socket);
	b->flushed = true;
}

static bool goes_past_library(const struct live_body *b, uint64_t offset, uint64_t end)
{
	return push_is_pending(&b->push) || (b->may_push && end > offset && end - offset >= FAR);
}

static void count_pushed(struct live_body *b, uint64_t n)
{
	b->pushed += n;
	b->rq->body_bytes += n;
	if (n || !b->pushed_ms)
		b->pushed_ms = clock_ms();
}

static enum push_result push_from(
	struct live_body *b, uint64_t version, uint64_t offset, uint64_t end)
{
	struct request *rq = b->rq;
	struct push_source from = {&rq->server->recent, rq->live->fd, version};
	uint64_t before = offset;
	enum push_result result;

	flush(b);
	result = push_bytes(&b->push, rq->client->socket, &from, &offset, end, b->chunked);
	count_pushed(b, offset - before);
	if (result == PUSH_GONE)
		rq->outcome = OUTCOME_GONE;
	return result;
}

/* What came while the request is held at the edge; see follow_take. What the socket does not take
 * stays pending, for body_read(). */
static bool push_growth(void *cls, const struct push_piece *piece)
{
	struct live_body *b = cls;
	const struct waiter *w = &b->rq->waiter;
	uint64_t sent = 0;
	enum push_result result;

	if (piece->size >= b->end - w->offset)
		return false; /* which may be the end of it */
	result = push_piece(&b->push, w->peer->socket, piece, &sent, b->chunked);
	count_pushed(b, sent);
	return result == PUSH_DONE;
}

static bool hold_at(struct live_body *b, uint64_t offset)
{
	struct request *rq = b->rq;

	flush(b);
	return reader_looks_again(
		rq, b->may_push ? follow_stream(&rq->waiter, rq->live, offset, push_growth, b)
				: follow_hold(&rq->waiter, rq->live, offset, 0));
}

/* What there is at offset, which lies before the edge. The last byte of a promised length leaves
 * when the mount was asked once more. */
static ssize_t read_now(struct live_body *b, uint64_t offset, uint64_t end, char *buf, size_t max)
{
	size_t want = end - offset < max ? (size_t)(end - offset) : max;
	ssize_t n = live_read_at(b->rq->live, buf, want, offset);

	if (n > 0 && b->has_length && offset + (uint64_t)n == b->end) {
		struct live_view view;

		if (!ask_once_more(b, &view))
			return 0;
		if (b->rq->outcome != OUTCOME_OK)
			return cut(b, b->rq->outcome, buf);
		if (would_hide_failure(b, &view))
			n--; /* the last byte never leaves */
		if (!n || !is_true(b, &view))
			return cut(b, OUTCOME_ABORTED, buf);
	}
	if (n > 0) {
		b->flushed = true;
		b->rq->body_bytes += (uint64_t)n;
		return n;
	}
	if (n < 0 && errno != EIO)
		log_warn("cannot read %s: %s", b->rq->target, strerror(errno));
	return cut(b, OUTCOME_ABORTED, buf); /* shorter than it was, or broken */
}

static ssize_t body_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct live_body *b = cls;

	for (;;) {
		uint64_t offset = b->first + pos + b->pushed, end, past;
		struct live_view view;

		if (b->rq->outcome != OUTCOME_OK)
			return cut(b, b->rq->outcome, buf);
		live_view(b->rq->live, &view);
		if (!is_true(b, &view))
			return cut(b, OUTCOME_ABORTED, buf);
		end = view.edge < b->end ? view.edge : b->end;
		past = b->has_length && end == b->end ? end - 1 : end; /* see read_now() */
		if (goes_past_library(b, offset, past)) {
			enum push_result result = push_from(b, view.version, offset, past);

			if (result == PUSH_SHORT)
				return cut(b, OUTCOME_ABORTED, buf);
			if (result == PUSH_LATER && !reader_waits_for_room(b->rq, b->pushed_ms))
				return 0;
			continue;
		}
		if (offset >= b->end)
			return finish(b, buf);
		if (offset < end)
			return read_now(b, offset, end, buf, max);
		if (view.state == STATE_COMPLETE && !b->has_length)
			return finish(b, buf);
		if (view.state != STATE_GROWING)
			return cut(b, OUTCOME_ABORTED, buf);
		if (!hold_at(b, offset))
			return 0;
	}
}

struct MHD_Response *body_of_live(struct request *rq, const struct live_view *view, uint64_t first,
	uint64_t last, uint64_t length)
{
	struct live_body *b;
	struct MHD_Response *r;
	size_t block;

	if (request_is_head(rq))
		return reply_without_content(rq, length);
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	*b = (struct live_body){.rq = rq,
		.first = first,
		.has_length = length != MHD_SIZE_UNKNOWN,
		.declared = view->declared,
		.promise = view->size};
	b->end = b->has_length ? first + length : last == UINT64_MAX ? last : last + 1;
	b->may_push =
		!rq->server->tls &&
		(!b->has_length || (b->declared && b->end > view->edge && length >= BODY_LONG));
	if (!b->may_push)
		client_limit_unsent(rq->client->socket);
	rq->close_delimited = !b->has_length && request_is_http_1_0(rq);
	b->chunked = !b->has_length && !rq->close_delimited;
	if (rq->close_delimited)
		client_set_close_delimited(&rq->server->clients, rq->client, true);
	atomic_fetch_add(&rq->server->metrics.follows, 1);
	block = b->has_length || rq->close_delimited ? BLOCK : NO_BLOCK;
	r = MHD_create_response_from_callback(length, block, body_read, b, free);
	if (r && b->has_length && b->may_push)
		reply_header(r, "Connection", "close");
	if (!r)
		free(b);
	return r;
}
