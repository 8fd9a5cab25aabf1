/* SPDX-License-Identifier: MIT */
#include "httpd/follow_wake.h"

#include <unistd.h>

#include "httpd/clock.h"

#define GIVEN 16384 /* what is given in one piece; who is farther behind is resumed */

atomic_uint *follow_counter(struct follow *f, const struct live *live)
{
	return live == f->timer ? &f->delayed : &f->held;
}

static void waiters_resume(struct follow *f, const struct live *live, struct list *woken)
{
	list_for_each_safe (it, woken) {
		struct waiter *w = list_entry(it, struct waiter, entry);

		list_del(it);
		atomic_fetch_sub(follow_counter(f, live), 1);
		MHD_resume_connection(w->connection); /* w may be gone from here on */
	}
}

void waiter_wake(struct follow *f, struct waiter *w)
{
	struct live *live = w->live;

	pthread_mutex_lock(&live->lock);
	w->live = NULL;
	list_del(&w->entry);
	pthread_mutex_unlock(&live->lock);
	atomic_fetch_sub(follow_counter(f, live), 1);
	MHD_resume_connection(w->connection);
}

bool waiter_is_due(const struct waiter *w, const struct live_view *view, uint64_t now)
{
	return view->edge > w->offset || view->state != STATE_GROWING || view->truncated ||
	       atomic_load(&w->peer->gone) || (w->deadline_ms && w->deadline_ms <= now);
}

/* One that is due for growth alone, and near. */
static bool waiter_takes(const struct waiter *w, const struct live_view *view)
{
	return w->take && view->state == STATE_GROWING && !view->truncated &&
	       !atomic_load(&w->peer->gone) && view->edge - w->offset <= GIVEN;
}

/* Those due leave the list: for woken, or for takers. Returns the next deadline of the rest. */
static uint64_t collect_due_locked(
	struct live *live, bool everybody, struct list *woken, struct list *takers)
{
	uint64_t now = clock_ms(), next = 0;

	list_for_each_safe (it, &live->waiters) {
		struct waiter *w = list_entry(it, struct waiter, entry);

		if (everybody || waiter_is_due(w, &live->view, now)) {
			bool takes = !everybody && waiter_takes(w, &live->view);

			if (everybody)
				atomic_store(&w->peer->gone, true);
			if (!takes)
				w->live = NULL;
			list_del(it);
			list_add_tail(takes ? takers : woken, it);
		} else if (w->deadline_ms && (!next || w->deadline_ms < next)) {
			next = w->deadline_ms;
		}
	}
	return next;
}

/* A crowd does not fit into the processor's cache: what the next one needs is fetched while this
 * one is served. */
static void prefetch_next(const struct list *it, const struct list *end)
{
	const struct waiter *next = list_entry(it->next, struct waiter, entry);

	if (it->next == end)
		return;
	__builtin_prefetch(next->take_cls);
	__builtin_prefetch(next->peer);
	if (it->next->next != end)
		__builtin_prefetch(it->next->next);
}

/* Those who did not take it, or came too late, move from takers to woken. */
static void growth_give(
	struct follow *f, struct live *live, uint64_t edge, struct list *takers, struct list *woken)
{
	char data[GIVEN];
	uint64_t from = edge; /* data begins there */

	list_for_each_safe (it, takers) {
		struct waiter *w = list_entry(it, struct waiter, entry);
		size_t size = (size_t)(edge - w->offset);

		if (f->gives_left) {
			f->gives_left--;
			prefetch_next(it, takers);
			if (from != w->offset)
				from = pread(live->fd, data, size, (off_t)w->offset) ==
						       (ssize_t)size
					       ? w->offset
					       : edge;
			if (from == w->offset && w->take(w->take_cls, data, size)) {
				w->offset = edge;
				continue;
			}
		}
		w->live = NULL;
		list_del(it);
		list_add_tail(woken, it);
	}
}

uint64_t live_wake(struct follow *f, struct live *live, bool everybody)
{
	struct list woken, takers;
	uint64_t next, edge;

	list_init(&woken);
	list_init(&takers);
	pthread_mutex_lock(&live->lock);
	edge = live->view.edge;
	next = collect_due_locked(live, everybody, &woken, &takers);
	pthread_mutex_unlock(&live->lock);
	waiters_resume(f, live, &woken);
	if (list_is_empty(&takers))
		return next;
	growth_give(f, live, edge, &takers, &woken);
	waiters_resume(f, live, &woken);
	pthread_mutex_lock(&live->lock);
	list_for_each_safe (it, &takers) {
		list_del(it);
		list_add_tail(&live->waiters, it);
	}
	pthread_mutex_unlock(&live->lock);
	return next;
}
