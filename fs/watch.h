/* SPDX-License-Identifier: MIT */
/*
 * The background threads. One hears of growth (inotify on store files, armed only while somebody
 * waits) and does nothing else, since a held read is answered the sooner the fewer calls lie
 * between. The other answers interrupted and timed-out requests, looks at files that inotify does
 * not tell of, and takes the signals that end the mount.
 *
 * Locks: the watch lock guards the map from watch descriptors to files, so that an event never
 * meets a watch that is not in the map yet. It is taken alone or inside the files lock.
 * A file is in the map only while it has references: file_put() disarms it first.
 */
#ifndef FS_WATCH_H
#define FS_WATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

struct file;
struct fs;

#define WATCH_BUCKETS 1024

struct watch {
	pthread_mutex_t lock;
	struct list by_wd[WATCH_BUCKETS]; /* watch lock */
	struct list timed;                /* files lock: files to look at every tick */
	bool refused_said;                /* watch lock */
	bool started, stop, ending;
	bool looking;           /* watch lock; the thread comes by itself to look at armed files */
	uint64_t look, look_ms; /* the thread's: the round, and when the next one is due */
	unsigned quiet_ticks, ending_ticks; /* the thread's, once it is ending */
	int inotify_fd;                     /* -1: everything goes by time */
	int stop_wd;                        /* removed to end the growth thread */
	int ring_fd, signal_fd, epoll_fd;
	pthread_t thread, growth_thread;
};

/* Call with SIGINT, SIGTERM and SIGHUP blocked, before other threads start. Negative errno. */
int watch_start(struct fs *fs);
/* Ends the threads; from here on nobody is held. */
void watch_stop(struct fs *fs);
/* Frees the rest, once no file is open. */
void watch_done(struct fs *fs);
/* Makes the other thread look for interrupted requests. */
void watch_ring(struct watch *w);

/* Changes of the store file wake f's waiters, until it is noticed that there are none. */
void watch_arm(struct fs *fs, struct file *f);
void watch_disarm_locked(struct fs *fs, struct file *f);
/* Looks at f every few milliseconds while it has waiters. */
void watch_by_time(struct fs *fs, struct file *f);

#endif
