/* SPDX-License-Identifier: MIT */
#include "httpd/live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/timespec.h"

#define TAIL 32768

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
	pthread_mutex_init(&live->tail_lock, NULL);
	return live;
}

void live_free(struct live *live)
{
	cleanup_close(&live->fd);
	pthread_mutex_destroy(&live->lock);
	pthread_mutex_destroy(&live->tail_lock);
	free(live->tail);
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
	view->lost = true;
}

/* Of a file that was complete, as resource_was_cut() has it: an append that has begun may tell its
 * time and not yet its size, and who writes over it will end. */
static bool is_written_over(const struct live_view *view, const struct progress *now)
{
	return view->state == STATE_COMPLETE && now->edge <= view->edge &&
	       !same_time(&now->written, &view->written);
}

/* What the mount says now, after what it said before; false when it does not say. */
static bool view_ask(int fd, struct live_view *view)
{
	struct progress now;
	int r = state_progress(fd, &now);

	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		view_fail(view, r);
		return true;
	}
	view->truncated |= now.edge < view->edge || (view->asked && now.cuts != view->cuts);
	if (!view->truncated && is_written_over(view, &now)) {
		if (now.state == STATE_GROWING)
			return false;
		view->truncated = true;
	}
	view->asked = true;
	view->cuts = now.cuts;
	if (now.edge > view->edge)
		view->edge = now.edge;
	if (view->state != STATE_GROWING)
		return true;
	view->state = now.state;
	view->written = now.written;
	if (now.state == STATE_COMPLETE) /* which ends the declaration */
		return true;
	view->settling = now.settling;
	view->declared = now.declared;
	view->size = now.size;
	return true;
}

bool live_look(struct live *live, struct live_view *ret)
{
	live_view(live, ret);
	return view_ask(live->fd, ret);
}

void live_ask(struct live *live)
{
	struct live_view view;

	live_view(live, &view);
	if (view.state != STATE_GROWING || live->directory)
		return;
	(void)view_ask(live->fd, &view); /* if not, asked again within a second */
	view.version++;
	SCOPED_LOCK(&live->lock);
	live->view = view;
}

static bool tail_fill_locked(struct live *live, uint64_t offset)
{
	struct live_view view;
	uint64_t end;
	ssize_t n;

	live_view(live, &view);
	end = view.state == STATE_GROWING ? view.edge : 0;
	if (view.version == live->tail_version && offset >= live->tail_at &&
		offset < live->tail_at + live->tail_len)
		return true;
	live->tail_len = 0;
	if (!live->tail)
		live->tail = malloc(TAIL);
	if (!live->tail || offset >= end || end - offset > TAIL)
		return false;
	n = pread(live->fd, live->tail, (size_t)(end - offset), (off_t)offset);
	if (n <= 0)
		return false;
	live->tail_at = offset;
	live->tail_len = (size_t)n;
	live->tail_version = view.version;
	return true;
}

ssize_t live_read_at(struct live *live, char *buf, size_t size, uint64_t offset)
{
	size_t n = 0;

	pthread_mutex_lock(&live->tail_lock);
	if (tail_fill_locked(live, offset)) {
		size_t at = (size_t)(offset - live->tail_at);

		n = live->tail_len - at < size ? live->tail_len - at : size;
		memcpy(buf, live->tail + at, n);
	}
	pthread_mutex_unlock(&live->tail_lock);
	return n ? (ssize_t)n : pread(live->fd, buf, size, (off_t)offset);
}

void live_count_change(struct live *live)
{
	SCOPED_LOCK(&live->lock);
	live->view.edge++;
}
