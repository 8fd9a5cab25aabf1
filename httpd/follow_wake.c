/* SPDX-License-Identifier: MIT */
#include "httpd/follow_wake.h"

#include <unistd.h>

#include "httpd/clock.h"
#include "httpd/worker.h"

#define CROWD   32 /* worth waking others for */
#define AT_ONCE 8  /* served without a look at who else takes part */
/* How much nicer helpers are: where followers run on this machine, they are not to wait for the
 * processor until all has been sent (measured: half of 1,000 have it a fifth sooner). */
#define YIELDING 5

atomic_uint *follow_counter(struct follow *f, const struct live *live)
{
	return live_is_own(f, live) ? &f->delayed : &f->held;
}

/* Off its list already. */
static void waiter_resume(struct follow *f, const struct live *live, struct waiter *w)
{
	struct worker *worker = w->peer->worker;

	w->live = NULL;
	atomic_fetch_sub(follow_counter(f, live), 1);
	MHD_resume_connection(w->connection); /* w may be gone from here on */
	worker_ring(worker);
}

static void waiters_resume(struct follow *f, const struct live *live, struct list *woken)
{
	list_for_each_safe (it, woken) {
		struct waiter *w = list_entry(it, struct waiter, entry);

		list_del(it);
		waiter_resume(f, live, w);
	}
}

void waiter_wake(struct follow *f, struct waiter *w)
{
	struct live *live = w->live;

	pthread_mutex_lock(&live->lock);
	list_del(&w->entry);
	pthread_mutex_unlock(&live->lock);
	waiter_resume(f, live, w);
}

bool waiter_is_due(const struct waiter *w, const struct live_view *view, uint64_t now)
{
	return view->edge > w->offset || view->state != STATE_GROWING || view->truncated ||
	       (atomic_load(&w->peer->gone) && !w->sending) ||
	       (w->by_call && atomic_load(&w->called)) || (w->deadline_ms && w->deadline_ms <= now);
}

/* One that is due for growth alone, and near. */
static bool waiter_takes(const struct waiter *w, const struct live_view *view)
{
	return w->take && view->edge > w->offset && view->state == STATE_GROWING &&
	       !view->truncated && !atomic_load(&w->peer->gone) &&
	       view->edge - w->offset <= PUSH_PIECE_SIZE;
}

/* Those due leave the list: for woken, or for takers. Returns the next deadline of the rest. */
static uint64_t collect_due_locked(struct follow *f, struct live *live, bool everybody,
	struct list *woken, struct list *takers)
{
	uint64_t now = clock_ms(), next = 0;

	list_for_each_safe (it, &live->waiters) {
		struct waiter *w = list_entry(it, struct waiter, entry);

		if (everybody || waiter_is_due(w, &live->view, now)) {
			bool takes = !everybody && f->gives_left && waiter_takes(w, &live->view);

			if (everybody)
				atomic_store(&w->peer->gone, true);
			if (takes)
				f->gives_left--;
			list_del(it);
			list_add_tail(takes ? takers : woken, it);
		} else if (w->deadline_ms && (!next || w->deadline_ms < next)) {
			next = w->deadline_ms;
		}
	}
	return next;
}

/* -- giving --------------------------------------------------------------------------------- */

static void lists_join(struct list *to, struct list *from)
{
	list_for_each_safe (it, from) {
		list_move_tail(to, it);
	}
}

/* A crowd does not fit into the processor's cache: what the next one needs is fetched while this
 * one is served. */
static void prefetch_next(const struct list *it, const struct list *end)
{
	const struct waiter *next = list_entry(it->next, struct waiter, entry);

	if (it->next == end)
		return;
	__builtin_prefetch(next->take_cls);
	__builtin_prefetch(next + 1); /* its end, and what its owner counts */
	__builtin_prefetch(next->peer);
	if (it->next->next != end)
		__builtin_prefetch(it->next->next);
}

/* The lock is let go of meanwhile. */
static void give_some_locked(struct giving *g)
{
	struct list mine, kept, refused;

	list_init(&mine);
	list_init(&kept);
	list_init(&refused);
	for (int i = 0; i < AT_ONCE && !list_is_empty(&g->takers); i++)
		list_move_tail(&mine, g->takers.next);
	g->busy++;
	pthread_mutex_unlock(&g->lock);
	list_for_each_safe (it, &mine) {
		struct waiter *w = list_entry(it, struct waiter, entry);
		bool taken;

		prefetch_next(it, &mine);
		taken = w->offset == g->from && w->take(w->take_cls, &g->piece);
		if (taken)
			w->offset = g->edge;
		list_move_tail(taken ? &kept : &refused, it);
	}
	pthread_mutex_lock(&g->lock);
	g->busy--;
	lists_join(&g->kept, &kept);
	lists_join(&g->refused, &refused);
}

static void *helper_run(void *data)
{
	struct giving *g = data;

	(void)nice(YIELDING); /* of this thread alone: sched(7), "The nice value" */
	pthread_mutex_lock(&g->lock);
	while (!g->ending) {
		if (list_is_empty(&g->takers)) {
			pthread_cond_wait(&g->begun, &g->lock);
			continue;
		}
		give_some_locked(g);
		if (!g->busy)
			pthread_cond_signal(&g->done);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

void giving_init(struct giving *g, unsigned helpers)
{
	list_init(&g->takers);
	list_init(&g->kept);
	list_init(&g->refused);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->begun, NULL);
	pthread_cond_init(&g->done, NULL);
	while (g->helpers < helpers && g->helpers < HELPERS_MAX &&
		!pthread_create(&g->helper[g->helpers], NULL, helper_run, g))
		g->helpers++;
}

void giving_end(struct giving *g)
{
	pthread_mutex_lock(&g->lock);
	g->ending = true;
	pthread_cond_broadcast(&g->begun);
	pthread_mutex_unlock(&g->lock);
	while (g->helpers)
		(void)pthread_join(g->helper[--g->helpers], NULL); /* it was created */
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->begun);
	pthread_cond_destroy(&g->done);
}

/* Those who took what came are kept, the others refused. */
static void growth_give(
	struct giving *g, struct live *live, uint64_t edge, struct list *takers, unsigned count)
{
	uint64_t from = list_entry(takers->next, struct waiter, entry)->offset;
	size_t size = (size_t)(edge - from);
	bool is_read =
		pread(live->fd, push_piece_data(&g->piece), size, (off_t)from) == (ssize_t)size;

	pthread_mutex_lock(&g->lock);
	push_piece_set(&g->piece, size);
	g->from = from;
	g->edge = edge;
	lists_join(is_read ? &g->takers : &g->refused, takers);
	if (count >= CROWD)
		pthread_cond_broadcast(&g->begun);
	while (!list_is_empty(&g->takers))
		give_some_locked(g);
	while (g->busy)
		pthread_cond_wait(&g->done, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

uint64_t live_wake(struct follow *f, struct live *live, bool everybody)
{
	struct list woken, takers;
	unsigned left = f->gives_left;
	uint64_t next, edge;

	list_init(&woken);
	list_init(&takers);
	pthread_mutex_lock(&live->lock);
	edge = live->view.edge;
	next = collect_due_locked(f, live, everybody, &woken, &takers);
	pthread_mutex_unlock(&live->lock);
	waiters_resume(f, live, &woken);
	if (list_is_empty(&takers))
		return next;
	growth_give(&f->giving, live, edge, &takers, left - f->gives_left);
	waiters_resume(f, live, &f->giving.refused);
	pthread_mutex_lock(&live->lock);
	lists_join(&live->waiters, &f->giving.kept);
	pthread_mutex_unlock(&live->lock);
	return next;
}
