/* SPDX-License-Identifier: MIT */
/*
 * A thread that has parts of growing files written to the store's disk, so that reserve.h can tell
 * zeros that were written from a gap, and then asks those again who wait there.
 *
 * A file is queued under the files lock, once, with a reference that goes to the thread; parts of
 * it are joined to one until then. The thread holds no lock while it waits for the disk, and
 * whoever queues never waits. What is queued at the end is dropped: nobody waits for it any more.
 */
#ifndef FS_WRITEOUT_H
#define FS_WRITEOUT_H

#include <pthread.h>
#include <stdbool.h>

#include "common/list.h"
#include "fs/ranges.h"

struct file;
struct fs;

struct writeout {
	pthread_cond_t more; /* files lock; so is the rest */
	struct list queue;
	bool stop, running;
	pthread_t thread;
};

/* Negative errno. */
int writeout_start(struct fs *fs);
void writeout_add(struct fs *fs, struct file *f, struct range part);
/* When nobody reads any more. */
void writeout_stop(struct fs *fs);

#endif
