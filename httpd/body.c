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
#include "httpd/body_long.h"
#include "httpd/client.h"
#include "httpd/reader.h"
#include "httpd/server.h"
#include "httpd/text.h"

#define BLOCK 32768

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
	autofree char *data = malloc(length ? length : 1);
	struct MHD_Response *r;

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
static struct MHD_Response *library_body(struct request *rq, uint64_t first, uint64_t length)
{
	int fd = fcntl(rq->resource.fd, F_DUPFD_CLOEXEC, 3);
	struct MHD_Response *r;

	if (fd < 0)
		return NULL;
	r = MHD_create_response_from_fd_at_offset64(length, fd, first);
	if (!r)
		cleanup_close(&fd);
	return r;
}

/* Over TLS the library could not leave the sending to the kernel anyhow. */
struct tls_body {
	struct request *rq;
	uint64_t first, length;
};

static ssize_t tls_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct tls_body *b = cls;
	uint64_t left = b->length - pos;
	ssize_t n = pread(
		b->rq->resource.fd, buf, left < max ? (size_t)left : max, (off_t)(b->first + pos));
	bool held;

	if (n <= 0)
		return reader_cut(b->rq, OUTCOME_ABORTED, buf);
	if ((uint64_t)n == left && !reader_may_end(b->rq, &held))
		return held ? 0 : reader_stop(b->rq, buf);
	return n;
}

static struct MHD_Response *tls_body(struct request *rq, uint64_t first, uint64_t length)
{
	struct tls_body *b = malloc(sizeof(*b));
	struct MHD_Response *r;

	if (!b)
		return NULL;
	*b = (struct tls_body){rq, first, length};
	r = MHD_create_response_from_callback(length, BLOCK, tls_read, b, free);
	if (!r)
		free(b);
	return r;
}

struct MHD_Response *body_of_file(struct request *rq, uint64_t first, uint64_t length)
{
	struct MHD_Response *r;

	rq->body_bytes = length;
	if (request_is_head(rq))
		return library_body(rq, first, length);
	if (length > CLIENT_UNSENT)
		client_limit_unsent(rq->client->socket);
	if (rq->resource.data)
		return MHD_create_response_from_buffer(
			length, rq->resource.data + first, MHD_RESPMEM_PERSISTENT);
	if (length <= RESOURCE_SMALL)
		return small_body(rq, first, (size_t)length);
	if (rq->server->tls)
		r = tls_body(rq, first, length);
	else if (length >= BODY_LONG)
		r = body_long(rq, first, length);
	else
		r = library_body(rq, first, length);
	if (!r)
		return NULL;
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
	bool held;

	for (size_t i = 0; i <= b->count; i++) {
		uint64_t length = i < b->count ? b->part[i].last - b->part[i].first + 1 : 0;

		if (i == b->count && pos == 0 && !reader_may_end(b->rq, &held))
			return held ? 0 : reader_stop(b->rq, buf);
		if (pos < b->header[i].len)
			return copy_text(&b->header[i], pos, buf, max);
		pos -= b->header[i].len;
		if (pos < length) {
			uint64_t left = length - pos;
			ssize_t n = pread(b->rq->resource.fd, buf, left < max ? (size_t)left : max,
				(off_t)(b->part[i].first + pos));

			return n > 0 ? n : reader_cut(b->rq, OUTCOME_ABORTED, buf);
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
	client_limit_unsent(rq->client->socket);
	if (parts_are_whole(b))
		r = MHD_create_response_from_callback(length, BLOCK, parts_read, b, parts_free);
	if (!r)
		parts_free(b);
	return r;
}
