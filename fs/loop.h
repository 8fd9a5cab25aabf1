/* SPDX-License-Identifier: MIT */
/*
 * The loop: threads that take requests from the kernel and have them answered. libfuse's own has
 * all of them in read(2), and the kernel wakes whoever has been there longest: another one, mostly
 * on another processor, for each request. Here a program that asks one thing after the other has
 * one and the same thread. That stays awake for the next request while there is one right after
 * each answer: to be woken takes longer than most answers. Only for a crowd, programs that ask in
 * turns, it is as there. A thread that has answered takes the first of these places that is free:
 *
 *   receiver  waits for a request. One, awake for a moment perhaps, then in poll(2); of a crowd
 *             some more, in read(2): the device blocks then
 *   lookout   while nobody receives, looks every LOOK_US whether a request lies there: then the
 *             others are at work, or wait for a disk, and it takes that. After LOOKS times for
 *             nothing it receives. One
 *   idle      two, and the rest ends
 *
 * Who goes to work leaves a receiver or a lookout behind, or brings one, a new thread while there
 * may be more. So a request that is stuck keeps the next one for LOOK_US at most. Who does what is
 * known to take long makes the lookout receive at once. A lookout that is overtaken, while there
 * comes to be a crowd, waits in read(2), which is as good as receiving.
 *
 * The loop lock guards all of it and is a leaf. loop_end() may be called by any thread, more than
 * once: then loop_run() sends SIGUSR1 to whoever is in a call for a request, until it has left, and
 * waits for the rest, who answer theirs. Nobody is interrupted at work: that begins under the lock.
 * What libfuse reads in that very moment it drops; whoever asked hears of the end soon after.
 */
#ifndef FS_LOOP_H
#define FS_LOOP_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define LOOP_THREADS_MOST 128

struct fs;

struct loop_thread {
	enum { LOOP_NEVER, LOOP_SERVES, LOOP_ENDED } state; /* ended: to be joined */
	struct fs *fs;
	pthread_t id;
	struct fuse_buf buf;      /* the request */
	bool taking;              /* in a call for one, or behind it */
	unsigned n_slept, misses; /* requests since it was awake for one, and how often in vain */
};

struct loop {
	pthread_mutex_t lock;
	pthread_cond_t look; /* for the lookout */
	pthread_cond_t idle; /* for one of the idle threads */
	pthread_cond_t end;  /* for loop_run() */
	unsigned n_receiving, n_idle;
	unsigned n_serving;            /* threads */
	unsigned n_called, n_starting; /* idle and new ones, on their way to receive */
	bool lookout;                  /* there is one */
	bool lookout_sleeps;           /* until it is woken: somebody receives */
	bool receive_now;              /* the lookout is to */
	bool crowd, ended;
	bool refused_said;   /* that there is no thread to be had */
	unsigned turns;      /* requests by another than the one before, less the others, of late */
	uint32_t last_asker; /* a thread id */
	struct loop_thread threads[LOOP_THREADS_MOST];
	int result;
};

/* Before loop_end() may be called, and after loop_run(). */
void loop_init(struct fs *fs);
void loop_done(struct fs *fs);
/* Serves the session, with up to fs->threads threads, until it ends. 0, or negative errno. */
int loop_run(struct fs *fs);
void loop_end(struct fs *fs);

#endif
