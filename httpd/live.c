/* SPDX-License-Identifier: MIT */
#include "httpd/live.h"

#include <stdlib.h>
#include <string.h>
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

/* A mount that went away: readers must not take what they have for the whole. */
static void view_fail(struct live_view *view, int error)
{
	log_warn("lost a growing file: %s; its followers are cut", strerror(-error));
	view->state = STATE_ABORTED;
}

/* What the mount says now, after what it said before. */
static void view_ask(int fd, struct live_view *view)
{
	struct progress now;
	int r = state_progress(fd, &now);

	if (r < 0) {
		view_fail(view, r);
		return;
	}
	view->truncated |= now.edge < view->edge || (view->asked && now.cuts != view->cuts);
	view->asked = true;
	view->cuts = now.cuts;
	if (now.edge > view->edge)
		view->edge = now.edge;
	if (view->state != STATE_GROWING)
		return;
	view->state = now.state;
	if (now.state == STATE_COMPLETE) /* which ends the declaration */
		return;
	view->declared = now.declared;
	view->size = now.size;
}

void live_look(struct live *live, struct live_view *ret)
{
	live_view(live, ret);
	view_ask(live->fd, ret);
}

void live_ask(struct live *live)
{
	struct live_view view;

	live_view(live, &view);
	if (view.state != STATE_GROWING || live->directory)
		return;
	view_ask(live->fd, &view);
	SCOPED_LOCK(&live->lock);
	live->view = view;
}

void live_count_change(struct live *live)
{
	SCOPED_LOCK(&live->lock);
	live->view.edge++;
}
