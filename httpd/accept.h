/* SPDX-License-Identifier: MIT */
/*
 * Taking connections: one thread accepts on listening sockets and gives what comes to workers, in
 * turn. A connection that cannot be taken yet waits in the socket's queue, where the kernel keeps
 * it: while as many are open as may be, until one ends; while descriptors or memory are short, for
 * a moment at a time. One too many from an address is closed.
 *
 * Sockets and workers are the caller's; the thread uses them between acceptor_start() and
 * acceptor_stop(). The count of open connections is atomic: whoever makes it less wakes a thread
 * that said it waits for that, and it says so before it looks at the count once more. The
 * addresses have a lock, with which nothing else is taken.
 */
#ifndef HTTPD_ACCEPT_H
#define HTTPD_ACCEPT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "httpd/listen.h"

struct worker;

struct acceptor {
	int listening[LISTEN_MAX];
	unsigned listening_count;
	struct worker *workers;
	unsigned worker_count, next_worker;
	unsigned most;     /* connections at a time */
	atomic_uint open;  /* connections that are */
	atomic_bool full;  /* the thread waits for one of them to end */
	atomic_bool quits; /* the thread is to end */
	uint64_t said_ms;  /* when a shortage was last logged; the thread's */
	int wake;          /* eventfd */
	bool running;
	pthread_t thread;
	unsigned most_per_ip;      /* 0: any number */
	pthread_mutex_t addresses; /* of by_address */
	void *by_address;          /* tree of struct visitor, tsearch(3) */
};

/* Before the workers. -errno when there is no descriptor for it; acceptor_done() in either case. */
int acceptor_init(struct acceptor *a, unsigned most, unsigned most_per_ip);
/* -errno when there is no thread for it. */
int acceptor_start(struct acceptor *a, const struct listener *listeners, unsigned listener_count,
	struct worker *workers, unsigned worker_count);
/* Once it returns no connection is taken any more. Does nothing if it does not run. */
void acceptor_stop(struct acceptor *a);
/* After the last connection. */
void acceptor_done(struct acceptor *a);

/* A connection that a worker was given has ended. Any thread. */
void acceptor_left(struct acceptor *a, const struct sockaddr *from);

#endif
