/* SPDX-License-Identifier: MIT */
#include "httpd/worker.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "httpd/accept.h"
#include "httpd/clock.h"

#define HURRY    8 /* turns before a pause */
#define PAUSE_MS 1
#define LOOK_MS  1000

struct arrival {
	struct list entry;
	int socket;
	socklen_t size;
	struct sockaddr_storage from;
};

int worker_init(struct worker *w, void *owner, struct acceptor *acceptor)
{
	*w = (struct worker){.owner = owner, .acceptor = acceptor};
	pthread_mutex_init(&w->lock, NULL);
	list_init(&w->arrivals);
	list_init(&w->chunked);
	w->ring = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->ring < 0 ? -errno : 0;
}

void worker_ring(struct worker *w)
{
	if (!atomic_exchange(&w->rung, true))
		(void)!write(w->ring, &(uint64_t){1}, sizeof(uint64_t)); /* full: it rings */
}

/* -- connections ------------------------------------------------------------------------------ */

int worker_give(struct worker *w, int socket, const struct sockaddr *from, socklen_t size)
{
	struct arrival *a = malloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->socket = socket;
	a->size = size;
	memcpy(&a->from, from, size);
	pthread_mutex_lock(&w->lock);
	list_add_tail(&w->arrivals, &a->entry);
	pthread_mutex_unlock(&w->lock);
	worker_ring(w);
	return 0;
}

static struct arrival *next_arrival(struct worker *w)
{
	struct arrival *a;

	SCOPED_LOCK(&w->lock);
	if (list_is_empty(&w->arrivals))
		return NULL;
	a = list_entry(w->arrivals.next, struct arrival, entry);
	list_del(&a->entry);
	return a;
}

/* A connection that cannot be had, the library closes; sometimes it tells so. */
static void take_arrivals(struct worker *w)
{
	for (;;) {
		autofree struct arrival *a = next_arrival(w);
		struct sockaddr *from;

		if (!a)
			return;
		from = (struct sockaddr *)&a->from;
		w->told = false;
		if (MHD_add_connection(w->daemon, a->socket, from, a->size) != MHD_YES && !w->told)
			acceptor_left(w->acceptor, from);
	}
}

void worker_connection(struct worker *w, struct MHD_Connection *connection,
	enum MHD_ConnectionNotificationCode what)
{
	w->told = true;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED)
		acceptor_left(w->acceptor,
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
				->client_addr);
}

/* -- running ---------------------------------------------------------------------------------- */

/* Whether the client sends no more, and what it sent is not read either: the library reads some
 * each time that it is run, while it has room. */
static bool is_gone(struct worker_chunked *c)
{
	struct pollfd p = {.fd = c->socket, .events = POLLRDHUP};
	bool ended = poll(&p, 1, 0) == 1;
	int before = c->unread;

	if (ioctl(c->socket, FIONREAD, &c->unread))
		c->unread = 0;
	return ended && c->unread == before;
}

/* One that has no room to read would not see the end of the stream; nor would one be told of a
 * reset that the library has in no epoll set yet, since there was always more to read than it had
 * room for. From one whose line before a chunk does not end, 1.0.1 neither reads on nor sends its
 * refusal. It has so much time, and has had more. */
static void end_those_gone(struct worker *w)
{
	uint64_t now = clock_ms();

	if (now - w->looked_ms < LOOK_MS)
		return;
	w->looked_ms = now;
	list_for_each (it, &w->chunked) {
		struct worker_chunked *c = list_entry(it, struct worker_chunked, entry);

		if (is_gone(c))
			(void)MHD_set_connection_option(/* if not: as late as an idle one */
				c->connection, MHD_CONNECTION_OPTION_TIMEOUT, 1U);
	}
}

/* libmicrohttpd (0.9.75) is to be run again at once, and again, while the line before a chunk fills
 * its buffer and does not end: until the idle time-out, if there is one. No body comes meanwhile,
 * but there is other work without one, so the thread only pauses now and then, and not if something
 * comes. */
static bool may_pause(struct worker *w)
{
	bool some = !list_is_empty(&w->chunked);

	w->hurrying = some ? (w->hurrying + 1) % HURRY : 0;
	return some && !w->hurrying;
}

static void wait_for_events(struct worker *w, int epoll)
{
	struct pollfd polled[] = {
		{.fd = w->ring, .events = POLLIN}, {.fd = epoll, .events = POLLIN}};
	unsigned long long ms;
	uint64_t rings;
	int timeout = -1;

	if (MHD_get_timeout(w->daemon, &ms) == MHD_YES)
		timeout = ms < INT_MAX ? (int)ms : INT_MAX;
	if (!timeout && may_pause(w))
		timeout = PAUSE_MS;
	if (!list_is_empty(&w->chunked)) {
		end_those_gone(w);
		if (timeout < 0 || timeout > LOOK_MS)
			timeout = LOOK_MS;
	}
	if (!timeout || poll(polled, 2, timeout) <= 0 || !polled[0].revents)
		return;
	(void)!read(w->ring, &rings, sizeof(rings)); /* only its coming matters */
	atomic_store(&w->rung, false);
}

static void *worker_run(void *data)
{
	struct worker *w = data;
	int epoll = MHD_get_daemon_info(w->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;

	while (!atomic_load(&w->quits)) {
		take_arrivals(w);
		(void)MHD_run(w->daemon); /* fails for other kinds of daemon only */
		wait_for_events(w, epoll);
	}
	return NULL;
}

int worker_start(struct worker *w, struct MHD_Daemon *daemon)
{
	int r;

	w->daemon = daemon;
	r = -pthread_create(&w->thread, NULL, worker_run, w);
	w->running = r == 0;
	return r;
}

void worker_stop(struct worker *w)
{
	if (w->running) {
		atomic_store(&w->quits, true);
		worker_ring(w);
		(void)pthread_join(w->thread, NULL); /* it was created */
	}
	w->running = false;
	if (!w->daemon)
		return;
	take_arrivals(w); /* the daemon closes them with the others */
	MHD_stop_daemon(steal_ptr(&w->daemon));
}

void worker_done(struct worker *w)
{
	cleanup_close(&w->ring);
	pthread_mutex_destroy(&w->lock);
}
