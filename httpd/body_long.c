/* SPDX-License-Identifier: MIT */
#include "httpd/body_long.h"

#include <stdlib.h>
#include <unistd.h>

#include "httpd/client.h"
#include "httpd/clock.h"
#include "httpd/push.h"
#include "httpd/reader.h"
#include "httpd/reply.h"

#define BLOCK 16 /* of which one byte is used */

struct long_body {
	struct request *rq;
	uint64_t offset, end;
	uint64_t moved_ms; /* when the socket last took something; 0: nothing yet */
};

static enum push_result push_more(struct long_body *b)
{
	int socket = b->rq->client->socket;
	uint64_t before = b->offset;
	enum push_result result;

	if (!b->moved_ms)
		client_flush(socket);
	result = push_file(socket, b->rq->resource.fd, &b->offset, b->end - 1);
	if (b->offset > before || !b->moved_ms)
		b->moved_ms = clock_ms();
	return result;
}

static ssize_t last_byte(struct long_body *b, char *buf)
{
	bool held;

	if (pread(b->rq->resource.fd, buf, 1, (off_t)b->offset) != 1)
		return reader_cut(b->rq, OUTCOME_ABORTED, buf);
	if (!reader_may_end(b->rq, &held))
		return held ? 0 : reader_stop(b->rq, buf);
	b->offset++;
	return 1;
}

static ssize_t long_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct long_body *b = cls;

	if (b->offset == b->end)
		return reader_finish(b->rq, buf);
	while (b->rq->outcome == OUTCOME_OK) {
		switch (push_more(b)) {
		case PUSH_DONE:
			return last_byte(b, buf);
		case PUSH_LATER:
			if (!reader_waits_for_room(b->rq, b->moved_ms))
				return 0;
			break;
		case PUSH_GONE:
			return reader_cut(b->rq, OUTCOME_GONE, buf);
		case PUSH_SHORT:
			return reader_cut(b->rq, OUTCOME_ABORTED, buf);
		}
	}
	return reader_cut(b->rq, b->rq->outcome, buf);
}

struct MHD_Response *body_long(struct request *rq, uint64_t first, uint64_t length)
{
	struct long_body *b = calloc(1, sizeof(*b));
	struct MHD_Response *r;

	if (!b)
		return NULL;
	*b = (struct long_body){.rq = rq, .offset = first, .end = first + length};
	r = MHD_create_response_from_callback(length, BLOCK, long_read, b, free);
	if (!r)
		free(b);
	reply_header(r, "Connection", "close");
	return r;
}
