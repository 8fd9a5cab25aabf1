/* SPDX-License-Identifier: MIT */
/*
 * Who waits for what: the only module that suspends and resumes connections. One thread hears of
 * growth (inotify on the mounted file), of ends (poll on the plain handle), of clients that
 * left and of deadlines, and wakes those concerned; nobody else blocks.
 *
 * A request that may wait owns a struct waiter from waiter_init() to waiter_done(), both in its
 * worker thread. follow_hold() may be called from the access handler or a content reader only,
 * as MHD_suspend_connection() demands. Whoever is held is on its live's list; only the follow
 * thread takes it off, and the connection runs again right after.
 * Locks: table_lock, then struct live's lock, then libmicrohttpd's own; see live.h. That of struct
 * giving alone.
 */
#ifndef HTTPD_FOLLOW_H
#define HTTPD_FOLLOW_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/list.h"
#include "httpd/live.h"
#include "httpd/push.h"

struct follow;
struct worker;

/* The other end of a connection, from its first to its last moment. */
struct peer {
	struct follow *follow;
	struct worker *worker; /* runs the connection */
	int socket;
	bool watched;          /* in the epoll set */
	struct waiter *waiter; /* of the request that was held last, table_lock */
	atomic_bool gone;      /* it sends no more, or the server stops */
};

/* Sends what came at the offset of a request that is held. In the follow thread or, while that
 * waits, a helper of it; must not block. False when not all is sent: the request runs again. */
typedef bool follow_take(void *cls, const struct push_piece *piece);

struct waiter {
	struct peer *peer;
	struct MHD_Connection *connection;
	struct live *live;    /* while held, table_lock */
	struct list entry;    /* live->waiters, its lock */
	uint64_t offset;      /* wakes when the edge is beyond it; moves on with what is taken */
	uint64_t deadline_ms; /* clock_ms(), 0 for none */
	follow_take *take;    /* NULL: wakes for any growth */
	void *take_cls;
	bool sending; /* waits for room only: who sends no more may still receive */
	bool by_call; /* wakes for follow_call(), too */
	atomic_bool called;
};

/* With so many threads new bytes are sent to a crowd. Negative errno when the thread or its
 * descriptors cannot be made. */
int follow_new(unsigned threads, struct follow **ret);
/* Wakes everybody as if their clients had left, now and from now on. Returns at once. */
void follow_stop(struct follow *f);
/* After the last request. */
void follow_free(struct follow *f);

/* The live of a growing file or of a directory, made if nobody follows it yet; fd (any kind) is
 * reopened, not kept. A reference: live_put() it. -errno; for a file that is no longer
 * growing the live says so. */
int follow_live(struct follow *f, int fd, const struct stat *st, struct live **ret);
void live_put(struct follow *f, struct live *live);

/* Between these two the socket must stay open. Whether or not a request is held, the library is
 * told when the peer leaves: it misses that when it comes together with data. */
void peer_init(struct peer *p, struct follow *f, struct worker *worker, int socket);
void peer_done(struct peer *p);

void waiter_init(struct waiter *w, struct peer *peer, struct MHD_Connection *connection);
void waiter_done(struct waiter *w);

enum hold {
	HOLD_READY, /* no need to wait: look again */
	HOLD_HELD,  /* suspended; the handler or reader is called again */
	HOLD_GONE,  /* nobody is there to wait */
};

/* Waits until live's edge is beyond offset, it ends, or deadline_ms passes (0: never). */
enum hold follow_hold(struct waiter *w, struct live *live, uint64_t offset, uint64_t deadline_ms);

/* The same without a deadline; while the file grows, take gets the bytes and the request stays
 * held. */
enum hold follow_stream(
	struct waiter *w, struct live *live, uint64_t offset, follow_take *take, void *cls);

/* Holds for ms milliseconds, or until the client leaves; HOLD_READY only when they have passed. */
enum hold follow_delay(struct waiter *w, uint64_t ms);

/* Holds until the client's socket takes more, or for ms milliseconds. */
enum hold follow_writable(struct waiter *w, uint64_t ms);

/* Holds until somebody has called follow_call() since this last returned HOLD_READY; may say so
 * once too often. */
enum hold follow_until_called(struct waiter *w);
/* Any thread, with any lock that is taken before table_lock; never blocks. */
void follow_call(struct waiter *w);

/* Requests that wait for a file now, and files and directories being followed. */
void follow_count(struct follow *f, unsigned *ret_held, unsigned *ret_lives);
/* Requests that wait at all. */
unsigned follow_suspended(struct follow *f);

#endif
