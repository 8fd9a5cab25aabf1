/* SPDX-License-Identifier: MIT */
#include "httpd/body.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/client.h"
#include "httpd/clock.h"
#include "httpd/push.h"
#include "httpd/server.h"
#include "httpd/text.h"

#define BLOCK     32768
#define FAR       16384 /* so much behind the edge, bytes go past the library */
#define NO_BLOCK  16    /* chunks are read into the connection's own buffer */
#define DRAIN_MS  20    /* between looks at the socket before a reset */
#define DRAIN_MAX 500   /* looks: ten seconds */

/*
 * How a content reader ends its connection. libmicrohttpd 0.9 forgets a connection that a reader
 * ends with MHD_CONTENT_READER_END_*: it is closed, but nobody looks at it again, so that its
 * descriptor stays until another connection of that thread times out. A failing send is
 * handled at once. So the socket is shut first, and the byte that is returned cannot leave.
 */
static ssize_t end_connection(const struct request *rq, char *buf)
{
	client_shut(rq->client->socket);
	buf[0] = '\0';
	return 1;
}

/* -- one part of a complete file -------------------------------------------------------------- */

static bool read_fully(int fd, char *buf, size_t size, uint64_t offset)
{
	while (size) {
		ssize_t n = pread(fd, buf, size, (off_t)offset);

		if (n <= 0)
			return false;
		buf += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return true;
}

static struct MHD_Response *small_body(struct request *rq, uint64_t first, size_t length)
{
	autofree char *data = NULL;
	struct MHD_Response *r;

	if (rq->resource.data)
		return MHD_create_response_from_buffer(
			length, rq->resource.data + first, MHD_RESPMEM_MUST_COPY);
	data = malloc(length ? length : 1);
	if (!data || !read_fully(rq->resource.fd, data, length, first))
		return NULL;
	if (resource_changed(&rq->resource))
		return NULL;
	r = MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE);
	if (r)
		(void)steal_ptr(&data);
	return r;
}

/* The response closes its descriptor when it likes, so it gets one of its own. */
struct MHD_Response *body_of_file(struct request *rq, uint64_t first, uint64_t length)
{
	struct MHD_Response *r;
	int fd;

	rq->body_bytes = length;
	if (length <= RESOURCE_SMALL && !request_is_head(rq))
		return small_body(rq, first, (size_t)length);
	fd = fcntl(rq->resource.fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return NULL;
	r = MHD_create_response_from_fd_at_offset64(length, fd, first);
	if (!r)
		cleanup_close(&fd);
	if (!r || request_is_head(rq))
		return r;
	rq->by_kernel = true;
	rq->arrived = client_arrived(rq->client->socket);
	client_set_body(&rq->server->clients, rq->client, &rq->resource, first + length);
	return r;
}

/* -- several parts ---------------------------------------------------------------------------- */

struct parts_body {
	struct request *rq;
	size_t count;
	struct range part[RANGE_MAX];
	struct text header[RANGE_MAX + 1]; /* before each part, and after the last */
};

static void parts_free(void *cls)
{
	struct parts_body *b = cls;

	for (size_t i = 0; i <= b->count; i++)
		text_free(&b->header[i]);
	free(b);
}

static ssize_t copy_text(const struct text *t, uint64_t at, char *buf, size_t max)
{
	size_t n = t->len - (size_t)at;

	n = n < max ? n : max;
	memcpy(buf, t->data + at, n);
	return (ssize_t)n;
}

static ssize_t parts_piece(struct parts_body *b, uint64_t pos, char *buf, size_t max)
{

	for (size_t i = 0; i <= b->count; i++) {
		uint64_t length = i < b->count ? b->part[i].last - b->part[i].first + 1 : 0;

		if (pos < b->header[i].len)
			return copy_text(&b->header[i], pos, buf, max);
		pos -= b->header[i].len;
		if (pos < length) {
			uint64_t left = length - pos;
			ssize_t n = pread(b->rq->resource.fd, buf, left < max ? (size_t)left : max,
				(off_t)(b->part[i].first + pos));

			return n > 0 ? n : end_connection(b->rq, buf);
		}
		pos -= length;
	}
	return MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t parts_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct parts_body *b = cls;
	ssize_t n = parts_piece(b, pos, buf, max);

	b->rq->body_bytes += n > 0 ? (uint64_t)n : 0;
	return n;
}

static uint64_t parts_fill(struct parts_body *b, const struct range_parts *parts, uint64_t size,
	const char *type, const char *boundary)
{
	uint64_t total = 0;

	b->count = parts->count;
	for (size_t i = 0; i < b->count; i++) {
		const struct range *r = &parts->part[i];

		b->part[i] = *r;
		text_printf(&b->header[i],
			"%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64
			"/%" PRIu64 "\r\n\r\n",
			i ? "\r\n" : "", boundary, type, r->first, r->last, size);
		total += b->header[i].len + r->last - r->first + 1;
	}
	text_printf(&b->header[b->count], "\r\n--%s--\r\n", boundary);
	return total + b->header[b->count].len;
}

static bool parts_are_whole(const struct parts_body *b)
{
	for (size_t i = 0; i <= b->count; i++)
		if (b->header[i].failed || !b->header[i].len)
			return false;
	return true;
}

struct MHD_Response *body_of_parts(struct request *rq, const struct range_parts *parts,
	uint64_t size, const char *type, const char *boundary)
{
	struct parts_body *b = calloc(1, sizeof(*b));
	struct MHD_Response *r = NULL;
	uint64_t length;

	if (!b)
		return NULL;
	b->rq = rq;
	length = parts_fill(b, parts, size, type, boundary);
	if (parts_are_whole(b))
		r = MHD_create_response_from_callback(length, BLOCK, parts_read, b, parts_free);
	if (!r)
		parts_free(b);
	return r;
}

/* -- a live file ------------------------------------------------------------------------------ */

struct live_body {
	struct request *rq;
	uint64_t first, end; /* end: one past the last byte that may be sent */
	bool has_length, flushed;
	bool declared;    /* its client was told the size that the writer had declared, */
	uint64_t promise; /* this one */
	unsigned drained;
	struct push push;
	uint64_t pushed, pushed_ms; /* bytes that the library does not know of, and when */
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
	return end_connection(rq, buf);
}

static ssize_t cut(struct live_body *b, enum outcome why, char *buf)
{
	if (b->rq->outcome == OUTCOME_OK && why == OUTCOME_ABORTED)
		atomic_fetch_add(&b->rq->server->metrics.cuts, 1);
	b->rq->outcome = why;
	if (b->rq->close_delimited)
		return cut_by_reset(b, buf);
	return end_connection(b->rq, buf);
}

/* Neither were bytes taken back, nor is the file longer than its client was told. */
static bool is_true(const struct live_body *b, const struct live_view *view)
{
	if (view->truncated)
		return false;
	if (!b->declared)
		return true;
	return view->state == STATE_COMPLETE ? view->edge == b->promise
					     : view->declared && view->size == b->promise;
}

/* Before a body may end well the mount is asked once more: the follow thread may have been slower
 * than a writer who began anew, and what was read then may be of another file. */
static bool is_still_true(const struct live_body *b)
{
	struct live_view view;

	live_look(b->rq->live, &view);
	return is_true(b, &view);
}

/* The clean end. Over TLS only the library can say it. */
static ssize_t finish(struct live_body *b, char *buf)
{
	if (!b->has_length && !is_still_true(b))
		return cut(b, OUTCOME_ABORTED, buf);
	if (!b->rq->close_delimited || b->rq->server->tls)
		return MHD_CONTENT_READER_END_OF_STREAM;
	b->rq->finished = true;
	return end_connection(b->rq, buf);
}

/* What was sent so far is the header, which libmicrohttpd holds back to join it with a body: the
 * client shall have it now. */
static void flush(struct live_body *b)
{
	if (!b->flushed)
		client_flush(b->rq->client->socket);
	b->flushed = true;
}

/* False when held; otherwise it is time to look again. */
static bool look_again(struct request *rq, enum hold hold)
{
	if (hold == HOLD_GONE)
		rq->outcome = atomic_load(&rq->server->draining) ? OUTCOME_STOPPED : OUTCOME_GONE;
	return hold != HOLD_HELD;
}

/* The library's idle time-out does not see what goes past it. */
static bool hold_full(struct live_body *b)
{
	struct request *rq = b->rq;
	uint64_t limit = rq->server->options->idle_timeout_ms, idle = clock_ms() - b->pushed_ms;

	if (!limit)
		limit = UINT32_MAX;
	if (idle >= limit) {
		rq->outcome = OUTCOME_TIMEOUT;
		return true;
	}
	return look_again(rq, follow_writable(&rq->waiter, limit - idle));
}

static bool may_push(const struct live_body *b)
{
	return !b->has_length && !b->rq->server->tls;
}

static bool goes_past_library(const struct live_body *b, uint64_t offset, uint64_t end)
{
	return push_is_pending(&b->push) || (may_push(b) && end > offset && end - offset >= FAR);
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
	result =
		push_bytes(&b->push, rq->client->socket, &from, &offset, end, !rq->close_delimited);
	count_pushed(b, offset - before);
	if (result == PUSH_GONE)
		rq->outcome = OUTCOME_GONE;
	return result;
}

/* What came while the request is held at the edge; see follow_take. What the socket does not take
 * stays pending, for body_read(). */
static bool push_growth(void *cls, const char *data, size_t size)
{
	struct live_body *b = cls;
	uint64_t sent = 0;
	enum push_result result;

	if (size >= b->end - b->rq->waiter.offset)
		return false; /* which may be the end of it */
	result = push_data(
		&b->push, b->rq->client->socket, data, size, &sent, !b->rq->close_delimited);
	count_pushed(b, sent);
	return result == PUSH_DONE;
}

static bool hold_at(struct live_body *b, uint64_t offset)
{
	struct request *rq = b->rq;

	flush(b);
	return look_again(rq, may_push(b)
				      ? follow_stream(&rq->waiter, rq->live, offset, push_growth, b)
				      : follow_hold(&rq->waiter, rq->live, offset, 0));
}

/* What there is at offset, which lies before the edge. */
static ssize_t read_now(struct live_body *b, uint64_t offset, uint64_t end, char *buf, size_t max)
{
	size_t want = end - offset < max ? (size_t)(end - offset) : max;
	ssize_t n = live_read_at(b->rq->live, buf, want, offset);

	if (n > 0 && b->has_length && offset + (uint64_t)n == b->end && !is_still_true(b))
		return cut(b, OUTCOME_ABORTED, buf);
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
		uint64_t offset = b->first + pos + b->pushed, end;
		struct live_view view;

		if (b->rq->outcome != OUTCOME_OK)
			return cut(b, b->rq->outcome, buf);
		live_view(b->rq->live, &view);
		if (!is_true(b, &view))
			return cut(b, OUTCOME_ABORTED, buf);
		end = view.edge < b->end ? view.edge : b->end;
		if (goes_past_library(b, offset, end)) {
			enum push_result result = push_from(b, view.version, offset, end);

			if (result == PUSH_SHORT)
				return cut(b, OUTCOME_ABORTED, buf);
			if (result == PUSH_LATER && !hold_full(b))
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
	struct live_body *b = calloc(1, sizeof(*b));
	struct MHD_Response *r;
	size_t block;

	if (!b)
		return NULL;
	*b = (struct live_body){.rq = rq,
		.first = first,
		.has_length = length != MHD_SIZE_UNKNOWN,
		.declared = view->declared,
		.promise = view->size};
	b->end = b->has_length ? first + length : last == UINT64_MAX ? last : last + 1;
	rq->close_delimited = !b->has_length && request_is_http_1_0(rq);
	if (rq->close_delimited)
		client_set_close_delimited(&rq->server->clients, rq->client, true);
	atomic_fetch_add(&rq->server->metrics.follows, 1);
	block = b->has_length || rq->close_delimited ? BLOCK : NO_BLOCK;
	r = MHD_create_response_from_callback(length, block, body_read, b, free);
	if (!r)
		free(b);
	return r;
}
