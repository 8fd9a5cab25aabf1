/* SPDX-License-Identifier: MIT */
#include "httpd/live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

struct live *live_new(int fd, dev_t dev, ino_t ino, bool directory)
{
	struct live *live = calloc(1, sizeof(*live));

	if (!live) {
		(void)close(fd); /* only read from */
		return NULL;
	}
	live->fd = fd;
	live->watch = -1;
	live->directory = directory;
	live->dev = dev;
	live->ino = ino;
	live->view.state = STATE_GROWING;
	list_init(&live->entry);
	list_init(&live->waiters);
	pthread_mutex_init(&live->lock, NULL);
	return live;
}

void live_free(struct live *live)
{
	cleanup_close(&live->fd);
	pthread_mutex_destroy(&live->lock);
	free(live);
}

void live_view(struct live *live, struct live_view *ret)
{
	SCOPED_LOCK(&live->lock);
	*ret = live->view;
}

/* The end of a file that has ended, or of one whose edge the mount does not tell. */
static int size_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* A mount that went away: readers must not take what they have for the whole. */
static void view_fail(struct live_view *view, int error)
{
	log_warn("lost a growing file: %s; its followers are cut", strerror(-error));
	view->state = STATE_ABORTED;
}

static void view_ask_end(int fd, struct live_view *view)
{
	enum state state = state_get(fd);
	uint64_t size;
	int r;

	if (state == STATE_GROWING)
		return;
	r = size_of(fd, &size);
	if (state == STATE_PLAIN || r < 0) {
		view_fail(view, r < 0 ? r : -ENOTCONN);
		return;
	}
	/* The edge of an aborted file with a declared size is not its st_size. */
	if (state == STATE_ABORTED && state_edge(fd, &size) < 0)
		size = view->edge;
	view->truncated |= size < view->edge;
	if (size > view->edge)
		view->edge = size;
	view->state = state;
}

static void view_ask_edge(int fd, struct live_view *view)
{
	uint64_t edge, size;
	int r = state_edge(fd, &edge);

	if (r < 0) {
		view_ask_end(fd, view);
		return;
	}
	view->truncated |= edge < view->edge;
	if (edge > view->edge)
		view->edge = edge;
	if (!view->declared && !state_declared_size(fd, &size)) {
		view->declared = true;
		view->size = size;
	}
}

/* Answers are merged: an older one takes nothing back. */
static void view_merge(struct live_view *view, const struct live_view *answer)
{
	if (view->state != STATE_GROWING)
		return;
	if (answer->edge > view->edge)
		view->edge = answer->edge;
	view->truncated |= answer->truncated;
	view->declared |= answer->declared;
	view->size = answer->declared ? answer->size : view->size;
	view->state = answer->state;
}

void live_ask(struct live *live, bool end_too)
{
	struct live_view view;

	live_view(live, &view);
	if (view.state != STATE_GROWING || live->directory)
		return;
	view_ask_edge(live->fd, &view);
	if (end_too && view.state == STATE_GROWING)
		view_ask_end(live->fd, &view);
	SCOPED_LOCK(&live->lock);
	view_merge(&live->view, &view);
}

void live_count_change(struct live *live)
{
	SCOPED_LOCK(&live->lock);
	live->view.edge++;
}
