/* SPDX-License-Identifier: MIT */
/*
 * A live thing: a file that grows, or a directory in which a name is awaited. However many
 * requests follow it, it has one descriptor and one watch (follow.c). Followers hold references.
 *
 * Of a file, edge is the end of the bytes that may be sent; of a directory, the number of changes
 * seen. edge only grows. Once state is not STATE_GROWING neither changes again: a file that is
 * opened for writing once more gets another live.
 *
 * Locks: table_lock of struct follow before tail_lock before lock. fd, dev and ino are written
 * before the live is published; watch with table_lock.
 */
#ifndef HTTPD_LIVE_H
#define HTTPD_LIVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/list.h"
#include "httpd/state.h"

struct live_view {
	enum state state;
	uint64_t edge;
	bool declared;
	uint64_t size;           /* when declared; the last promise, once complete */
	bool truncated;          /* it became shorter: what was sent before is no longer true */
	bool lost;               /* the mount does not answer; state is STATE_ABORTED */
	bool asked;              /* the mount; cuts counts from there */
	uint64_t cuts;           /* see struct progress */
	bool settling;           /* likewise */
	struct timespec written; /* likewise, and stays once it is complete */
	/* Another one each time the mount was asked, and of each live: what was read before a
	 * write does not outlive it, since every write makes the follow thread ask. */
	uint64_t version;
};

struct live {
	struct list entry; /* of the table, table_lock */
	unsigned refs;     /* table_lock */
	bool listed;       /* in the table; table_lock */
	int fd;            /* native reads; a directory's is O_PATH */
	int watch;         /* of inotify, -1 for none */
	bool directory;
	dev_t dev;
	ino_t ino;

	pthread_mutex_t lock;
	struct live_view view; /* lock */
	struct list waiters;   /* of struct waiter, lock */

	pthread_mutex_t tail_lock; /* the last bytes, read once for all who are near the edge */
	char *tail;
	uint64_t tail_at;
	size_t tail_len;
	uint64_t tail_version; /* it holds for this one */
};

/* Takes fd over; NULL when out of memory. */
struct live *live_new(int fd, dev_t dev, ino_t ino, bool directory);
void live_free(struct live *live);

void live_view(struct live *live, struct live_view *ret);

/* Asks the mount how far the file is. The follow thread, and who makes a live. */
void live_ask(struct live *live);
/* Asks for *ret alone. Of a live that has ended, only truncated may become news. False when it
 * cannot be told for now, since the store takes its time over a cut: *ret is as it was before. */
bool live_look(struct live *live, struct live_view *ret);

/* As pread(2), of bytes before the edge. */
ssize_t live_read_at(struct live *live, char *buf, size_t size, uint64_t offset);

/* A directory changed. */
void live_count_change(struct live *live);

#endif
