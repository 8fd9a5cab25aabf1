/* SPDX-License-Identifier: MIT */
/*
 * Who waits, and waking them.
 *
 * A waiter is a request that was not answered yet: a read at the live edge, or an open (hold=open,
 * of a file that is still empty, or where something cannot be had at once, see open.c). It is
 * owned by exactly one of: the thread that makes it, until it is listed; the lists, while it is
 * listed; whoever takes it off a list under the files lock, who then answers and frees it. The
 * order on which everything rests:
 *
 *   1. fuse_req_interrupt_func() with the waiter not yet listed (it may run the callback at once);
 *   2. under the files lock: if interrupted meanwhile, answer EINTR; otherwise list it;
 *   3. arm the inotify watch, if it is not armed;
 *   4. look at the file again, and wake if there is something by now.
 *
 * So growth is either seen by 4 or raises an event after 3. A watch that is found armed in 3 stays:
 * the background thread disarms it under the lock of 2, when it finds nobody listed. The end of the
 * file is decided under that lock, too. Where 2 finds that the file is being changed (file->io), 4
 * is left to who does that. A waker takes waiters off under the lock, unlocks, takes the callback
 * back (which waits for one that is running), then answers. The callback only marks, moves the
 * waiter to the interrupted list and rings for the background thread, which answers EINTR. At
 * shutdown hold_fail_all() makes 2 refuse.
 */
#ifndef FS_HOLD_H
#define FS_HOLD_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/list.h"

struct file;
struct fs;
struct handle;

/* By what growth is noticed: the size stays when space was allocated before. */
struct growth {
	uint64_t size;
	struct timespec written;
};

struct waiter {
	struct list on_file;  /* files lock: the file's waiters, or hold.interrupted */
	struct list on_clock; /* files lock: hold.all */
	struct file *file;
	struct handle *handle;     /* a read; NULL: an open, which holds a reference to file */
	struct fuse_file_info *fi; /* an open; owned */
	fuse_req_t req;
	uint64_t offset;
	uint64_t deadline_ms; /* on the monotonic clock; UINT64_MAX: none */
	uint64_t latest_ms;   /* growth puts the deadline off until then */
	struct growth growth; /* the file's, when the deadline was set */
	uint32_t want;
	bool page, nonblock;
	bool first_byte;  /* an open: until there is one, or the end */
	bool tries;       /* an open: again and again (watch_by_time()) */
	bool sent_back;   /* an open: came again, see open.c */
	bool listed;      /* files lock */
	bool interrupted; /* files lock */
};

struct hold {
	/* The files lock guards all of it. */
	struct list interrupted; /* to be answered by the background thread */
	struct list all;         /* every listed waiter, earliest deadline first */
	bool stopping;
};

void hold_init(struct hold *h);

/* A waiter for req; NULL when memory is short. */
struct waiter *hold_new(fuse_req_t req, struct file *f, struct handle *h);
/* Keeps w's request until there is an answer to it. Takes w. */
void hold_request(struct fs *fs, struct waiter *w);
/* Answers whoever waits for f and can be answered now, and notifies pollers. */
void hold_wake(struct fs *fs, struct file *f);
/* The same when there are new bytes: a read that waits alone is asked without a look at the size.
 */
void hold_wake_grown(struct fs *fs, struct file *f);

/* For the background thread: */
void hold_answer_interrupted(struct fs *fs);
/* Answers those whose time is up without growth; returns milliseconds to the next one, -1 for none.
 */
int hold_answer_timeouts(struct fs *fs);
/* From now on nothing is held, and everything that was fails with error (positive errno). */
void hold_fail_all(struct fs *fs, int error);

#endif
