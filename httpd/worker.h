/* SPDX-License-Identifier: MIT */
/*
 * The threads that answer. Each runs one daemon of libmicrohttpd by MHD_run(). The library's own
 * threads would do but for one thing: when as many events come at once as it asks for (128), they
 * wait for further ones before they handle these, so that clients get nothing until something else
 * happens (0.9.75 and 1.0.1, MHD_epoll()). MHD_run() never waits.
 *
 * The daemon belongs to its thread between worker_start() and worker_stop(). Two things come from
 * others: connections, through a list with a lock of its own, and MHD_resume_connection(), which
 * has the library's. Whoever did either rings; the thread forgets that it rang before it looks.
 */
#ifndef HTTPD_WORKER_H
#define HTTPD_WORKER_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/list.h"

struct acceptor;

/* A request whose body comes in chunks, and is not there; the thread's. */
struct worker_chunked {
	struct list entry;
	struct MHD_Connection *connection;
	int socket;
	int unread; /* bytes in it, at the last look */
};

struct worker {
	void *owner;
	struct acceptor *acceptor; /* learns of the connections that ended */
	struct MHD_Daemon *daemon; /* not yet, or no longer: NULL */
	pthread_t thread;
	int ring; /* eventfd */
	atomic_bool rung, quits;
	bool running;
	bool told;           /* of a connection that is being added; the thread's */
	struct list chunked; /* struct worker_chunked; the thread's */
	uint64_t looked_ms;  /* after those of them that are gone; the thread's */
	/* The status that the library last said it answers, by itself; the thread's. It does not
	 * say whom: of two in one moment one may be logged with the other's. */
	unsigned refused;
	unsigned hurrying; /* turns without a wait for events or a piece of a body; the thread's */
	pthread_mutex_t lock;
	struct list arrivals; /* lock */
};

/* -errno when there is no descriptor for it; worker_done() in either case. */
int worker_init(struct worker *w, void *owner, struct acceptor *acceptor);
/*
 * Starts the thread. The daemon was made for it: MHD_USE_EPOLL, MHD_USE_NO_LISTEN_SOCKET, and with
 * worker_connection() told of connections. -errno.
 */
int worker_start(struct worker *w, struct MHD_Daemon *daemon);
/* Ends the thread, then the daemon. No connection may be suspended any more. */
void worker_stop(struct worker *w);
void worker_done(struct worker *w);

/* For the owner's MHD_OPTION_NOTIFY_CONNECTION. */
void worker_connection(struct worker *w, struct MHD_Connection *connection,
	enum MHD_ConnectionNotificationCode what);

/* Any thread. A connected socket, which is taken; from is copied. -errno, and it is not taken. */
int worker_give(struct worker *w, int socket, const struct sockaddr *from, socklen_t size);
void worker_ring(struct worker *w);

#endif
