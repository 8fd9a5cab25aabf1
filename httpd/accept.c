/* SPDX-License-Identifier: MIT */
#include "httpd/accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/clock.h"
#include "httpd/worker.h"

#define TURN     64    /* connections from a listener before the next one has its turn */
#define PAUSE_MS 100   /* while descriptors or memory are short */
#define QUIET_MS 60000 /* between two lines of the log about that */

struct visitor {
	struct in6_addr address;
	unsigned count;
};

int acceptor_init(struct acceptor *a, unsigned most, unsigned most_per_ip)
{
	*a = (struct acceptor){.most = most, .most_per_ip = most_per_ip};
	pthread_mutex_init(&a->addresses, NULL);
	a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return a->wake < 0 ? -errno : 0;
}

void acceptor_done(struct acceptor *a)
{
	cleanup_close(&a->wake);
	pthread_mutex_destroy(&a->addresses);
}

/* -- how many from where ---------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct in6_addr)); /* the first member of struct visitor */
}

/* IPv4 as IPv6 has it. */
static struct in6_addr address_of(const struct sockaddr *from)
{
	struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	if (from->sa_family == AF_INET6)
		return ((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
	memcpy(&address.s6_addr[12], &((const struct sockaddr_in *)(const void *)from)->sin_addr,
		4);
	return address;
}

/* False for one too many. */
static bool admit(struct acceptor *a, const struct sockaddr *from)
{
	struct visitor *fresh, **found;

	if (!a->most_per_ip)
		return true;
	fresh = malloc(sizeof(*fresh));
	if (!fresh)
		return false;
	*fresh = (struct visitor){.address = address_of(from)};
	SCOPED_LOCK(&a->addresses);
	found = tsearch(fresh, &a->by_address, compare);
	if (!found || *found != fresh)
		free(fresh);
	if (!found || (*found)->count >= a->most_per_ip)
		return false;
	(*found)->count++;
	return true;
}

static void dismiss(struct acceptor *a, const struct sockaddr *from)
{
	struct visitor key, **found, *gone;

	if (!a->most_per_ip)
		return;
	key.address = address_of(from);
	SCOPED_LOCK(&a->addresses);
	found = tfind(&key, &a->by_address, compare);
	if (!found || --(*found)->count)
		return;
	gone = *found;
	(void)tdelete(gone, &a->by_address, compare); /* its parent in the tree */
	free(gone);
}

/* -- accepting -------------------------------------------------------------------------------- */

static void say(struct acceptor *a, const char *why)
{
	uint64_t now = clock_ms();

	if (a->said_ms && now - a->said_ms < QUIET_MS)
		return;
	a->said_ms = now;
	log_warn("new connections wait: %s", why);
}

/* Whether another may be taken; if not, acceptor_left() will wake. */
static bool has_room(struct acceptor *a)
{
	if (atomic_load(&a->open) < a->most)
		return true;
	atomic_store(&a->full, true);
	if (atomic_load(&a->open) >= a->most)
		return false;
	atomic_store(&a->full, false);
	return true;
}

/* Of one connection, not of this process; accept(2). */
static bool is_of_the_client(int error)
{
	switch (error) {
	case EINTR:
	case ECONNABORTED:
	case EPERM:
	case EPROTO:
	case ENOPROTOOPT:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case EOPNOTSUPP:
	case ETIMEDOUT:
		return true;
	}
	return false;
}

/* False when there is none for now: *ret_short if for want of descriptors. */
static bool take_one(struct acceptor *a, int listening, bool *ret_short)
{
	struct sockaddr_storage peer;
	struct sockaddr *address = (struct sockaddr *)&peer;
	socklen_t size = sizeof(peer);
	int fd = accept4(listening, address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN)
			return false;
		if (is_of_the_client(errno))
			return true;
		say(a, strerror(errno));
		*ret_short = true;
		return false;
	}
	if (!admit(a, address)) {
		(void)close(fd); /* nothing was written to it */
		return true;
	}
	atomic_fetch_add(&a->open, 1);
	if (worker_give(&a->workers[a->next_worker], fd, address, size) < 0) {
		(void)close(fd); /* as above */
		acceptor_left(a, address);
	}
	a->next_worker = (a->next_worker + 1) % a->worker_count;
	return true;
}

/* True when descriptors are short. */
static bool take_some(struct acceptor *a, int listening)
{
	bool is_short = false;

	for (int n = 0; n < TURN && has_room(a) && take_one(a, listening, &is_short); n++)
		;
	return is_short;
}

static void *accept_run(void *data)
{
	struct acceptor *a = data;
	struct pollfd polled[LISTEN_MAX + 1] = {{.fd = a->wake, .events = POLLIN}};
	bool is_short = false;

	for (unsigned i = 0; i < a->listening_count; i++)
		polled[i + 1] = (struct pollfd){.fd = a->listening[i], .events = POLLIN};
	while (!atomic_load(&a->quits)) {
		nfds_t count = !is_short && has_room(a) ? a->listening_count + 1 : 1;
		uint64_t rings;

		if (poll(polled, count, is_short ? PAUSE_MS : -1) < 0)
			continue; /* EINTR */
		is_short = false;
		if (polled[0].revents)
			(void)!read(a->wake, &rings, sizeof(rings)); /* only its coming matters */
		for (nfds_t i = 1; i < count && !is_short; i++)
			if (polled[i].revents)
				is_short = take_some(a, polled[i].fd);
	}
	return NULL;
}

int acceptor_start(struct acceptor *a, const struct listener *listeners, unsigned listener_count,
	struct worker *workers, unsigned worker_count)
{
	int r;

	a->workers = workers;
	a->worker_count = worker_count;
	a->listening_count = listener_count;
	for (unsigned i = 0; i < listener_count; i++)
		a->listening[i] = listeners[i].fd;
	r = -pthread_create(&a->thread, NULL, accept_run, a);
	a->running = r == 0;
	return r;
}

static void ring(struct acceptor *a)
{
	(void)!write(a->wake, &(uint64_t){1}, sizeof(uint64_t)); /* full means that it rings */
}

void acceptor_stop(struct acceptor *a)
{
	if (a->running) {
		atomic_store(&a->quits, true);
		ring(a);
		(void)pthread_join(a->thread, NULL); /* it was created */
	}
	a->running = false;
}

void acceptor_left(struct acceptor *a, const struct sockaddr *from)
{
	dismiss(a, from);
	atomic_fetch_sub(&a->open, 1);
	if (atomic_exchange(&a->full, false))
		ring(a);
}
