/* SPDX-License-Identifier: MIT */
/*
 * What the follow thread keeps books of: the descriptors in its epoll set, and the lives that may
 * still change, with their inotify watches. Private to follow*.c.
 *
 * Descriptors are registered with a serial number, never by pointer: a stale event finds that the
 * slot of its descriptor has another serial. Functions ending in _locked need table_lock.
 * Errors are negative errno.
 */
#ifndef HTTPD_FOLLOW_TABLE_H
#define HTTPD_FOLLOW_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "httpd/follow.h"

enum slot_kind { SLOT_FREE, SLOT_WAKE, SLOT_INOTIFY, SLOT_LIVE, SLOT_PEER };

struct slot {
	enum slot_kind kind;
	uint32_t serial;
	void *what; /* struct live or struct peer */
};

#define HELPERS_MAX 7

/* One growth on its way to many, by the follow thread and its helpers. */
struct giving {
	pthread_t helper[HELPERS_MAX];
	unsigned helpers;
	pthread_mutex_t lock; /* of what follows; none is taken with it */
	pthread_cond_t begun, done;
	struct list takers, kept, refused; /* of struct waiter: still to serve, and served */
	unsigned busy;                     /* being served */
	bool ending;
	uint64_t from, edge; /* these two and the piece do not change while anybody is served */
	struct push_piece piece;
};

struct follow {
	int epoll, inotify, wake;
	pthread_t thread;
	atomic_bool stopping, quitting;
	atomic_uint held, delayed;             /* requests on a file's list, and on those two's */
	atomic_uint_fast64_t next_deadline_ms; /* 0: none */
	unsigned gives_left;                   /* in this turn; the follow thread's */
	struct giving giving;

	pthread_mutex_t table_lock;
	struct list lives;   /* those that may still change, table_lock */
	unsigned live_count; /* table_lock */
	/* These two never change, and are the first of lives: for holds that only a deadline ends,
	 * or follow_call(). */
	struct live *timer, *calls;
	struct slot *slots; /* by descriptor, table_lock */
	int slot_count;     /* table_lock */
	uint32_t serial;    /* table_lock */
};

/* events: of epoll, besides EPOLLERR and EPOLLHUP. */
int slot_add_locked(struct follow *f, int fd, enum slot_kind kind, uint32_t events, void *what);
/* Other events of a descriptor that has a slot. */
void slot_ask_locked(struct follow *f, int fd, uint32_t events);
void slot_remove_locked(struct follow *f, int fd);
/* The slot that an event belongs to, or NULL when it is stale. */
struct slot *slot_of_event_locked(struct follow *f, uint64_t data);

/* live has ended: nothing more is heard of it, and nobody else joins it. */
void live_unwatch_locked(struct follow *f, struct live *live);
/* A reference, or NULL. */
struct live *live_of_watch_locked(struct follow *f, int watch);
/* One of those two, of no file. */
bool live_is_own(const struct follow *f, const struct live *live);
/* References to all lives, our own included; the caller puts them. NULL when out of memory. */
struct live **lives_get(struct follow *f, unsigned *ret_count);

#endif
