/* SPDX-License-Identifier: MIT */
#include "httpd/get.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "httpd/await.h"
#include "httpd/complete.h"
#include "httpd/growing.h"
#include "httpd/listing.h"
#include "httpd/reply.h"
#include "httpd/server.h"
#include "httpd/view.h"

/* A file that completes, is opened again, completes ... while a request looks at it. One that is
 * rewritten without a pause may win as often on a busy machine. */
#define STATE_RACES 32

/* 0 with rq->resource open, 1 when held, or negative errno. */
static int open_or_wait(struct request *rq)
{
	int r = 0;

	if (rq->resource.fd >= 0)
		return 0;
	do {
		r = request_open(rq, rq->name, &rq->resource);
		if (r == -ENOENT && await_limit(rq))
			r = await_name(rq);
	} while (r == -EAGAIN && !(r = await_store(rq)));
	return r;
}

/* When there is no answer for now, 1, or none but an error. */
static enum MHD_Result no_answer(struct request *rq, int r)
{
	if (r == 1)
		return MHD_YES;
	return r == -ECANCELED ? MHD_NO : reply_errno(rq, r);
}

static enum MHD_Result file_answer(struct request *rq)
{
	for (int i = 0; i < STATE_RACES; i++) {
		enum state state = rq->resource.state;
		enum MHD_Result result;
		bool again = false;
		int r;

		if (state == STATE_PLAIN || state == STATE_COMPLETE)
			result = complete_answer(rq, &again);
		else
			result = growing_answer(rq, &again);
		if (!again)
			return result;
		request_follow(rq, NULL);
		r = request_open_again(rq);
		if (r == -EAGAIN)
			r = await_store(rq);
		if (r)
			return no_answer(rq, r);
	}
	return reply_errno(rq, -EAGAIN);
}

/* rq->name becomes that of the index file; negative errno when there is none, or none for now. */
static int open_index(struct request *rq)
{
	struct resource index;
	char *name;
	int r;

	if (asprintf(&name, "%s%s%s", rq->name, *rq->name ? "/" : "", rq->server->options->index) <
		0)
		return -ENOMEM;
	r = request_open(rq, name, &index);
	if (r < 0) {
		free(name);
		return r;
	}
	if (!S_ISREG(index.st.st_mode)) {
		resource_close(&index);
		free(name);
		return -EISDIR;
	}
	resource_close(&rq->resource);
	rq->resource = index;
	free(rq->name);
	rq->name = name;
	rq->directory = false;
	return 0;
}

static bool has_index(const struct request *rq)
{
	return *rq->server->options->index && !listing_wants_json(rq);
}

static enum MHD_Result directory_answer(struct request *rq)
{
	int r = -ENOENT;

	if (!rq->directory && *rq->name) {
		size_t len = strlen(rq->name);
		char *name = realloc(rq->name, len + 2);

		if (!name)
			return MHD_NO;
		memcpy(name + len, "/", 2);
		rq->name = name;
		return reply_redirect(rq, MHD_HTTP_MOVED_PERMANENTLY, name);
	}
	rq->by_accept = true;
	if (has_index(rq))
		while ((r = open_index(rq)) == -EAGAIN)
			if ((r = await_store(rq)))
				return no_answer(rq, r);
	if (!r)
		return file_answer(rq);
	if (r != -EISDIR && reply_status_of_errno(r) != MHD_HTTP_NOT_FOUND)
		return reply_errno(rq, r); /* there is one */
	if (rq->server->options->no_listing)
		return reply_error(rq, MHD_HTTP_FORBIDDEN, NULL);
	return listing_answer(rq);
}

enum MHD_Result get_answer(struct request *rq)
{
	int r;

	if (rq->listing)
		return listing_answer(rq);
	r = open_or_wait(rq);
	if (r)
		return no_answer(rq, r);
	if (S_ISDIR(rq->resource.st.st_mode))
		return directory_answer(rq);
	if (rq->directory)
		return reply_errno(rq, -ENOTDIR);
	if (view_is_asked(rq))
		return view_answer(rq);
	return file_answer(rq);
}
