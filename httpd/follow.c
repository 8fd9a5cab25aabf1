/* SPDX-License-Identifier: MIT */
/*
 * Why nothing is lost: the watch is armed before the mount is first asked for the edge, and
 * follow_hold() looks at the view and joins the list under the same lock under which the follow
 * thread changes the view and takes waiters off. Growth that comes before the look is seen by
 * it, growth that comes after finds the waiter listed.
 *
 * Why nobody is resumed twice or too late: a listed waiter is suspended, and its connection
 * cannot end before the follow thread resumes it. So the thread may collect waiters under
 * the lock and resume them afterwards; once resumed, it does not touch them again.
 *
 * Who follows at the live edge is not even resumed (follow_wake.c): the follow thread reads what
 * came, once for all, and gives it to each waiter's take(), which sends it; of a crowd, its helpers
 * give too, and it waits for them. From being listed to being resumed a waiter and what its take()
 * touches belong to the follow thread, handed over with the live's lock, to a helper and back with
 * the lock of struct giving, and at last with libmicrohttpd's own: that leaves the socket of a
 * suspended connection alone and cannot close it. The view is changed by the follow thread only, so
 * it stays true while no lock is held: those who are given to wait on a private list meanwhile,
 * neither lock nor worker waits for a send, and back on the list at the edge they are as they were.
 * Whatever is unusual (the end, a cut, a client that left or takes no more, many bytes at once, a
 * short read) resumes, and the reader decides. So does the end of a turn: other files wait no
 * longer for a crowd, whose rest the workers serve.
 *
 * Ends come by poll; once a second every live is asked outright, so that a filesystem which
 * does not poll, a lost event or an overflowing queue costs a second and not the truth.
 */
#include "httpd/follow_table.h"
#include "httpd/follow_wake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/clock.h"

#define RECHECK_MS   1000
#define EVENTS       128
#define UNWATCHED_MS 10
#define SHORTAGE_MS  50
#define SETTLE_MS    5
#define GIVES        2048 /* in one turn, some 10 ms; for who comes later, workers send */

/* -- looking ---------------------------------------------------------------------------------- */

/* True when deadline_ms is now the next one. */
static bool deadline_lower(struct follow *f, uint64_t deadline_ms)
{
	uint_fast64_t next = atomic_load(&f->next_deadline_ms);

	while (!next || next > deadline_ms)
		if (atomic_compare_exchange_weak(&f->next_deadline_ms, &next, deadline_ms))
			return true;
	return false;
}

static bool live_is_settling(struct live *live)
{
	struct live_view view;

	live_view(live, &view);
	return view.state == STATE_GROWING && view.settling;
}

/* After the mount was asked: lets go of a file that has ended, so that who comes now finds it as it
 * is, and wakes. */
static void live_settle(struct follow *f, struct live *live)
{
	struct live_view view;

	live_view(live, &view);
	if (view.state != STATE_GROWING || view.truncated) {
		SCOPED_LOCK(&f->table_lock);
		live_unwatch_locked(f, live);
	}
	if (view.state == STATE_GROWING && view.settling)
		(void)deadline_lower(f, clock_ms() + SETTLE_MS); /* this thread looks at it next */
	(void)live_wake(f, live, false); /* deadlines are looked at by their own timer */
}

static void live_changed(struct follow *f, struct live *live)
{
	if (live->directory)
		live_count_change(live);
	else
		live_ask(live);
	live_settle(f, live);
	live_put(f, live);
}

static void lives_recheck(struct follow *f)
{
	unsigned count;
	autofree struct live **all = lives_get(f, &count);

	for (unsigned i = 0; i < count; i++)
		if (live_is_own(f, all[i]))
			live_put(f, all[i]);
		else
			live_changed(f, all[i]);
}

static void lives_wake_due(struct follow *f, bool everybody)
{
	unsigned count;
	autofree struct live **all = lives_get(f, &count);
	uint64_t next = all ? 0 : clock_ms() + SHORTAGE_MS; /* of memory: it passes */

	atomic_store(&f->next_deadline_ms, 0);
	for (unsigned i = 0; i < count; i++) {
		uint64_t deadline;

		if (live_is_settling(all[i])) {
			live_ask(all[i]);
			live_settle(f, all[i]);
		}
		deadline = live_wake(f, all[i], everybody);
		if (deadline && (!next || deadline < next))
			next = deadline;
		live_put(f, all[i]);
	}
	if (next)
		(void)deadline_lower(f, next); /* this thread looks at it next */
}

/* -- events --------------------------------------------------------------------------------- */

static void inotify_event(struct follow *f, const struct inotify_event *event)
{
	struct live *live;

	if (event->mask & IN_Q_OVERFLOW) {
		lives_recheck(f);
		return;
	}
	if (event->mask & IN_IGNORED)
		return;
	pthread_mutex_lock(&f->table_lock);
	live = live_of_watch_locked(f, event->wd);
	pthread_mutex_unlock(&f->table_lock);
	if (live)
		live_changed(f, live);
}

/* A read's worth of events; the same file twice in a row is asked once. */
static void inotify_read(struct follow *f)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(f->inotify, buf, sizeof(buf));
	int last = -1;

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const void *)(buf + at);

		if (event->wd != last || event->mask & ~(uint32_t)IN_MODIFY)
			inotify_event(f, event);
		last = event->wd;
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

/* A waiter exists while its peer knows it, its live while it is held there. libmicrohttpd takes a
 * short read for the last until the next edge (0.9.75), so an end of stream that came with the data
 * needs an edge of its own; SHUT_RD makes one, and leaves the other direction alone. */
static struct waiter *peer_event_locked(struct peer *p, uint32_t events)
{
	bool held = p->waiter && p->waiter->live;

	if (events & ~(uint32_t)EPOLLOUT) {
		bool was_gone = atomic_exchange(&p->gone, true);

		/* Once, for it is an edge for us, too; see clients_reap(). */
		if (!held && !was_gone)
			(void)shutdown(p->socket, SHUT_RD); /* it may have gone completely */
	}
	return held ? p->waiter : NULL;
}

static void event_handle(struct follow *f, const struct epoll_event *event)
{
	enum slot_kind kind = SLOT_FREE;
	struct waiter *waiter = NULL;
	struct live *live = NULL;
	uint64_t count;

	pthread_mutex_lock(&f->table_lock);
	struct slot *slot = slot_of_event_locked(f, event->data.u64);
	if (slot) {
		kind = slot->kind;
		if (kind == SLOT_LIVE) {
			live = slot->what;
			live->refs++;
		} else if (kind == SLOT_PEER) {
			waiter = peer_event_locked(slot->what, event->events);
		}
	}
	pthread_mutex_unlock(&f->table_lock);
	if (kind == SLOT_WAKE) {
		(void)!read(f->wake, &count, sizeof(count)); /* only its coming matters */
		(void)live_wake(f, f->calls, false);         /* which has no deadlines */
	} else if (kind == SLOT_INOTIFY)
		inotify_read(f);
	else if (kind == SLOT_LIVE)
		live_changed(f, live);
	else if (waiter)
		waiter_wake(f, waiter);
}

static int wait_ms(struct follow *f, uint64_t recheck)
{
	uint64_t now = clock_ms(), deadline = atomic_load(&f->next_deadline_ms);
	bool idle;

	pthread_mutex_lock(&f->table_lock);
	idle = !f->live_count;
	pthread_mutex_unlock(&f->table_lock);
	if (idle && !deadline)
		return -1;
	if (deadline && (idle || deadline < recheck))
		recheck = deadline;
	return recheck <= now ? 0 : (int)(recheck - now);
}

static void *follow_run(void *data)
{
	struct follow *f = data;
	struct epoll_event events[EVENTS];
	uint64_t recheck = clock_ms() + RECHECK_MS;

	while (!atomic_load(&f->quitting)) {
		int n = epoll_wait(f->epoll, events, EVENTS, wait_ms(f, recheck));
		uint64_t now, deadline;

		f->gives_left = GIVES;
		for (int i = 0; i < n; i++)
			event_handle(f, &events[i]);
		now = clock_ms();
		deadline = atomic_load(&f->next_deadline_ms);
		if (atomic_load(&f->stopping) || (deadline && deadline <= now))
			lives_wake_due(f, atomic_load(&f->stopping));
		if (recheck <= now) {
			lives_recheck(f);
			recheck = clock_ms() + RECHECK_MS;
		}
	}
	return NULL;
}

static void wake(struct follow *f)
{
	(void)!write(f->wake, &(uint64_t){1}, sizeof(uint64_t)); /* full means that it will wake */
}

/* -- waiting -------------------------------------------------------------------------------- */

/* Edge-triggered: once is enough. */
void peer_init(struct peer *p, struct follow *f, struct worker *worker, int socket)
{
	int r;

	*p = (struct peer){.follow = f, .worker = worker, .socket = socket};
	SCOPED_LOCK(&f->table_lock);
	r = slot_add_locked(f, socket, SLOT_PEER, EPOLLRDHUP | EPOLLET, p);
	p->watched = r >= 0;
	if (r < 0)
		log_warn("cannot watch a client: %s, ignoring", strerror(-r));
}

void peer_done(struct peer *p)
{
	SCOPED_LOCK(&p->follow->table_lock);
	if (p->watched)
		slot_remove_locked(p->follow, p->socket);
	p->watched = false;
}

void waiter_init(struct waiter *w, struct peer *peer, struct MHD_Connection *connection)
{
	*w = (struct waiter){.peer = peer, .connection = connection};
	list_init(&w->entry);
}

/* peer->waiter is only set by the worker that runs this. */
void waiter_done(struct waiter *w)
{
	if (!w->peer || !w->peer->waiter)
		return;
	SCOPED_LOCK(&w->peer->follow->table_lock);
	w->peer->waiter = NULL;
}

/* w->take and w->sending say how. */
static enum hold hold_until(
	struct waiter *w, struct live *live, uint64_t offset, uint64_t deadline_ms)
{
	struct follow *f = w->peer->follow;
	enum hold hold = HOLD_READY;
	bool settling;

	pthread_mutex_lock(&f->table_lock);
	w->peer->waiter = w;
	pthread_mutex_lock(&live->lock);
	settling = live->view.settling;
	w->offset = offset;
	w->deadline_ms = deadline_ms;
	w->by_call = live == f->calls;
	if ((atomic_load(&w->peer->gone) && !w->sending) || atomic_load(&f->stopping)) {
		hold = HOLD_GONE;
	} else if (!waiter_is_due(w, &live->view, clock_ms())) {
		hold = HOLD_HELD;
		w->live = live;
		atomic_fetch_add(follow_counter(f, live), 1);
		MHD_suspend_connection(w->connection);
		list_add_tail(&live->waiters, &w->entry);
	}
	pthread_mutex_unlock(&live->lock);
	pthread_mutex_unlock(&f->table_lock);
	if (hold == HOLD_HELD && settling && deadline_lower(f, clock_ms() + SETTLE_MS))
		wake(f);
	if (hold == HOLD_HELD && deadline_ms && deadline_lower(f, deadline_ms))
		wake(f);
	return hold;
}

enum hold follow_hold(struct waiter *w, struct live *live, uint64_t offset, uint64_t deadline_ms)
{
	w->take = NULL;
	w->sending = false;
	return hold_until(w, live, offset, deadline_ms);
}

enum hold follow_stream(
	struct waiter *w, struct live *live, uint64_t offset, follow_take *take, void *cls)
{
	w->take = take;
	w->take_cls = cls;
	w->sending = false;
	return hold_until(w, live, offset, 0);
}

enum hold follow_delay(struct waiter *w, uint64_t ms)
{
	return follow_hold(w, w->peer->follow->timer, UINT64_MAX, clock_ms() + ms);
}

/* Once EPOLLOUT was asked for it stays: edge-triggered, it comes only after the socket was full. To
 * ask anew tells what is so already: so not that the client sends no more. One that left altogether
 * makes an error of it. */
enum hold follow_writable(struct waiter *w, uint64_t ms)
{
	struct peer *p = w->peer;
	uint32_t end = atomic_load(&p->gone) ? 0 : EPOLLRDHUP;
	uint64_t until = clock_ms() + (p->watched ? ms : UNWATCHED_MS);
	enum hold hold;

	w->take = NULL;
	w->sending = true;
	hold = hold_until(w, p->follow->timer, UINT64_MAX, until);
	if (hold == HOLD_HELD && p->watched) {
		SCOPED_LOCK(&p->follow->table_lock);
		slot_ask_locked(p->follow, p->socket, EPOLLOUT | EPOLLET | end);
	}
	return hold;
}

enum hold follow_until_called(struct waiter *w)
{
	enum hold hold = follow_hold(w, w->peer->follow->calls, UINT64_MAX, 0);

	if (hold == HOLD_READY)
		atomic_store(&w->called, false);
	return hold;
}

void follow_call(struct waiter *w)
{
	struct follow *f = w->peer->follow;

	atomic_store(&w->called, true); /* and may be gone */
	wake(f);
}

/* -- life ----------------------------------------------------------------------------------- */

void follow_count(struct follow *f, unsigned *ret_held, unsigned *ret_lives)
{
	SCOPED_LOCK(&f->table_lock);
	*ret_held = atomic_load(&f->held);
	*ret_lives = f->live_count;
}

unsigned follow_suspended(struct follow *f)
{
	return atomic_load(&f->held) + atomic_load(&f->delayed);
}

static int follow_open(struct follow *f)
{
	int r;

	f->epoll = epoll_create1(EPOLL_CLOEXEC);
	f->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->epoll < 0 || f->inotify < 0 || f->wake < 0)
		return -errno;
	f->timer = live_new(-1, 0, 0, true);
	f->calls = live_new(-1, 0, 0, true);
	if (!f->timer || !f->calls)
		return -ENOMEM;
	SCOPED_LOCK(&f->table_lock);
	f->timer->refs = f->calls->refs = 1;
	list_add_tail(&f->lives, &f->timer->entry);
	list_add_tail(&f->lives, &f->calls->entry);
	r = slot_add_locked(f, f->wake, SLOT_WAKE, EPOLLIN, NULL);
	return r < 0 ? r : slot_add_locked(f, f->inotify, SLOT_INOTIFY, EPOLLIN, NULL);
}

static void follow_close(struct follow *f)
{
	cleanup_close(&f->epoll);
	cleanup_close(&f->inotify);
	cleanup_close(&f->wake);
	giving_end(&f->giving);
	if (f->timer)
		live_free(f->timer);
	if (f->calls)
		live_free(f->calls);
	pthread_mutex_destroy(&f->table_lock);
	free(f->slots);
	free(f);
}

int follow_new(unsigned threads, struct follow **ret)
{
	struct follow *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->epoll = f->inotify = f->wake = -1;
	list_init(&f->lives);
	pthread_mutex_init(&f->table_lock, NULL);
	giving_init(&f->giving, threads - 1);
	r = follow_open(f);
	if (!r)
		r = -pthread_create(&f->thread, NULL, follow_run, f);
	if (r < 0) {
		follow_close(f);
		return r;
	}
	*ret = f;
	return 0;
}

void follow_stop(struct follow *f)
{
	atomic_store(&f->stopping, true);
	wake(f);
}

void follow_free(struct follow *f)
{
	if (!f)
		return;
	atomic_store(&f->quitting, true);
	wake(f);
	(void)pthread_join(f->thread, NULL); /* it was created */
	follow_close(f);
}
