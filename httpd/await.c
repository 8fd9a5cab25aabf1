/* SPDX-License-Identifier: MIT */
#include "httpd/await.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "httpd/clock.h"
#include "httpd/path.h"
#include "httpd/prefer.h"
#include "httpd/reader.h"
#include "httpd/root.h"
#include "httpd/server.h"

#define LOOK_MAX_MS 500

bool await_limit(struct request *rq)
{
	uint64_t limit_ms = rq->server->options->hold_timeout_ms, seconds;
	autofree char *prefer = request_header(rq, "Prefer");
	bool asked = prefer && prefer_wait(prefer, &seconds);

	if (asked && (!limit_ms || seconds * 1000 < limit_ms))
		limit_ms = seconds * 1000;
	if (limit_ms || asked)
		rq->wait_until_ms = rq->started_ms + limit_ms + (limit_ms > 0); /* not less */
	return asked;
}

bool await_is_over(const struct request *rq)
{
	return rq->wait_until_ms && rq->wait_until_ms <= clock_ms();
}

/* A look costs a moment of the worker, too: the longer it takes, the fewer. */
int await_store(struct request *rq)
{
	uint64_t waited = clock_ms() - rq->started_ms;

	(void)await_limit(rq);
	if (await_is_over(rq))
		return -EAGAIN;
	return reader_held(rq,
		follow_delay(&rq->waiter, waited / 2 < LOOK_MAX_MS ? waited / 2 + 1 : LOOK_MAX_MS));
}

void request_follow(struct request *rq, struct live *live)
{
	live_put(rq->server->follow, rq->live);
	rq->live = live;
}

/* The nearest directory above name that exists: what is missing begins to exist there. */
static int open_ancestor(const struct request *rq)
{
	autofree char *name = strdup(rq->name);
	int fd = name ? -ENOENT : -ENOMEM;

	while (fd == -ENOENT && *name) {
		name[path_parent_len(name)] = '\0';
		fd = root_open(rq->server->root, name, O_PATH | O_DIRECTORY, 0);
	}
	return fd;
}

static int follow_ancestor(struct request *rq)
{
	autoclose int fd = open_ancestor(rq);
	struct live *live;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	r = follow_live(rq->server->follow, fd, &st, &live);
	if (!r)
		request_follow(rq, live);
	return r;
}

/* The directory is followed before the name is looked for again, so that
 * its coming is not missed. */
int await_name(struct request *rq)
{
	struct live_view view;
	int r;

	for (;;) {
		r = follow_ancestor(rq);
		if (r < 0)
			return r;
		live_view(rq->live, &view);
		r = request_open(rq, rq->name, &rq->resource);
		if (r != -ENOENT || await_is_over(rq))
			return r;
		r = reader_held(
			rq, follow_hold(&rq->waiter, rq->live, view.edge, rq->wait_until_ms));
		if (r)
			return r;
	}
}
