/* SPDX-License-Identifier: MIT */
/*
 * Threads that complete files, where that has to wait: for the disk (sync=complete), or until a
 * file has lingered (linger=). They may wait for a disk as long as it takes, and nobody but who
 * waits for the end of that file waits with them.
 *
 * A file is queued under the files lock, once, with a reference that goes to the thread which takes
 * it off; the count of writers that had come goes along, so that a thread notices when it is late
 * (end.h). No lock is held while the disk is waited for. At the end completer_stop() has everything
 * completed that was queued.
 */
#ifndef FS_COMPLETER_H
#define FS_COMPLETER_H

#include <pthread.h>
#include <stdbool.h>

#include "common/list.h"

#define COMPLETER_THREADS 8

struct file;
struct fs;

struct completer {
	pthread_cond_t more; /* files lock; so is the rest */
	struct list queue;
	bool stop;
	unsigned n_threads;
	pthread_t threads[COMPLETER_THREADS];
};

/* Starts the threads if the options ask for what they do. Negative errno. */
int completer_start(struct fs *fs);
/* f, which nobody writes any more, is to be completed. Files lock held. */
void completer_add_locked(struct fs *fs, struct file *f);
/* Completes what is queued and ends the threads. */
void completer_stop(struct fs *fs);

#endif
