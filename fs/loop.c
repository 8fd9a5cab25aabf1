/* SPDX-License-Identifier: MIT */
#include "fs/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "fs/fs.h"

#define LOOK_US   1000
#define LOOKS     16    /* for nothing, then it receives */
#define RECEIVERS 8     /* of a crowd */
#define IDLE      2     /* threads that are kept */
#define CROWD     32    /* so many requests of turns make one */
#define WAKE_US   10000 /* a signal that comes before the call is lost */

#define AWAKE_NS    40000 /* a client's wake-up, and what it does before it asks again */
#define MISSES_MOST 8

static void set_crowd_locked(struct fs *fs, bool crowd)
{
	const int fd = fuse_session_fd(fs->session), flags = fcntl(fd, F_GETFL);

	if (fcntl(fd, F_SETFL, crowd ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0)
		fs->loop.crowd = crowd;
}

static void on_wake(int sig)
{
}

void loop_init(struct fs *fs)
{
	struct loop *l = &fs->loop;
	struct sigaction wake = {.sa_handler = on_wake}; /* no SA_RESTART: it is to interrupt */
	sigset_t signals;
	pthread_condattr_t monotonic;

	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->look, &monotonic);
	pthread_cond_init(&l->end, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_cond_init(&l->idle, NULL);
	sigaction(SIGUSR1, &wake, NULL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &signals, NULL); /* who started us may have blocked it */
	set_crowd_locked(fs, false);
}

void loop_done(struct fs *fs)
{
	struct loop *l = &fs->loop;

	pthread_cond_destroy(&l->end);
	pthread_cond_destroy(&l->idle);
	pthread_cond_destroy(&l->look);
	pthread_mutex_destroy(&l->lock);
}

void loop_end(struct fs *fs)
{
	struct loop *l = &fs->loop;

	fuse_session_exit(fs->session);
	SCOPED_LOCK(&l->lock);
	l->ended = true;
	pthread_cond_broadcast(&l->look);
	pthread_cond_broadcast(&l->idle);
	pthread_cond_broadcast(&l->end);
}

/* More than 0: a request is in t->buf. -EAGAIN: there was none. */
static int look(struct loop_thread *t)
{
	int r = -EAGAIN;

	t->buf.flags = 0;
	if (!fuse_session_exited(t->fs->session))
		r = fuse_session_receive_buf(t->fs->session, &t->buf);
	return r == -EINTR ? -EAGAIN : r;
}

/*
 * Awake at first. Each time that was in vain doubles how many of the next are slept for at once.
 * What lies there already, such as the release of a closed file, says nothing of when the next
 * comes.
 */
static int look_and_wait(struct loop_thread *t)
{
	struct pollfd device = {.fd = fuse_session_fd(t->fs->session), .events = POLLIN};
	int r = look(t);

	if (r == -EAGAIN && (t->n_slept + 1) >> t->misses) {
		const uint64_t until = clock_ns() + AWAKE_NS;

		while (r == -EAGAIN && clock_ns() < until)
			r = look(t);
		t->misses = r == -EAGAIN ? t->misses + (t->misses < MISSES_MOST) : 0;
		t->n_slept = 0;
	}
	if (r == -EAGAIN) {
		t->n_slept++;
		(void)poll(&device, 1, -1); /* looking will tell */
		r = look(t);
	}
	return r;
}

static int take_unlocked(struct loop_thread *t, bool wait)
{
	struct loop *l = &t->fs->loop;
	int r;

	t->taking = true;
	pthread_mutex_unlock(&l->lock);
	r = wait ? look_and_wait(t) : look(t);
	pthread_mutex_lock(&l->lock);
	t->taking = false;
	return r;
}

static int receive_locked(struct loop_thread *t)
{
	struct loop *l = &t->fs->loop;
	int r;

	l->n_receiving++;
	r = take_unlocked(t, !l->crowd);
	l->n_receiving--;
	if (l->lookout_sleeps && l->n_receiving == 0) {
		pthread_cond_signal(&l->look);
		l->lookout_sleeps = false;
	}
	return r;
}

static int look_out_locked(struct loop_thread *t)
{
	struct loop *l = &t->fs->loop;
	unsigned looks = 0;
	int r = -EAGAIN;

	l->lookout = true;
	while (r == -EAGAIN && !l->ended && !l->receive_now && looks < LOOKS) {
		l->lookout_sleeps = l->n_receiving > 0;
		if (l->lookout_sleeps) {
			looks = 0;
			pthread_cond_wait(&l->look, &l->lock);
		} else {
			const struct timespec until = clock_in_us(LOOK_US);

			looks++;
			pthread_cond_timedwait(&l->look, &l->lock, &until);
		}
		r = take_unlocked(t, false);
	}
	l->lookout_sleeps = l->receive_now = l->lookout = false;
	return r;
}

/* False: there is no need for it. */
static bool rest_locked(struct loop *l)
{
	if (l->n_idle == IDLE)
		return false;
	l->n_idle++;
	while (!l->n_called && !l->ended)
		pthread_cond_wait(&l->idle, &l->lock);
	l->n_idle--;
	l->n_called -= l->n_called > 0;
	return true;
}

static void note_asker_locked(struct fs *fs, uint32_t asker)
{
	struct loop *l = &fs->loop;

	if (asker != l->last_asker)
		l->turns += l->turns < CROWD;
	else
		l->turns -= l->turns > 0;
	l->last_asker = asker;
	if (l->turns == (l->crowd ? 0 : CROWD))
		set_crowd_locked(fs, !l->crowd);
}

static bool is_slow(const struct fuse_in_header *head)
{
	return head->opcode == FUSE_FSYNC || head->opcode == FUSE_FSYNCDIR ||
	       head->opcode == FUSE_FALLOCATE || head->opcode == FUSE_COPY_FILE_RANGE;
}

static void *work(void *arg);

static int start_thread_locked(struct fs *fs)
{
	struct loop *l = &fs->loop;
	struct loop_thread *t = l->threads;
	int r;

	while (t->state == LOOP_SERVES)
		t++; /* n_serving is less than there are */
	if (t->state == LOOP_ENDED)
		pthread_join(t->id, NULL);
	*t = (struct loop_thread){.fs = fs};
	r = -pthread_create(&t->id, NULL, work, t);
	if (r == 0) {
		t->state = LOOP_SERVES;
		l->n_serving++;
		l->n_starting++;
	} else if (!l->refused_said) {
		log_warn("no thread to be had (%s), a limit on processes perhaps: requests wait "
			 "for each other",
			strerror(-r));
	}
	l->refused_said |= r < 0;
	return r;
}

/* t has taken a request: somebody is to be there for the next. */
static void go_to_work_locked(struct loop_thread *t)
{
	const struct fuse_in_header *head = t->buf.mem;
	struct loop *l = &t->fs->loop;

	if (head->pid) /* 0: the kernel, or somebody whom we have no name for */
		note_asker_locked(t->fs, head->pid);
	if (l->ended || l->n_receiving || l->n_called || l->n_starting)
		return;
	if (head->opcode == FUSE_INIT) /* there is no other before its answer */
		return;
	if (l->lookout) {
		l->receive_now |= l->crowd || is_slow(head);
		if (l->receive_now)
			pthread_cond_signal(&l->look);
	} else if (l->n_idle) {
		l->n_called++;
		pthread_cond_signal(&l->idle);
	} else if (l->n_serving < t->fs->threads) {
		(void)start_thread_locked(t->fs);
	}
}

/*
 * Waits for a request, to go to work; as take_unlocked(), but -EAGAIN only after loop_end(), or
 * when t is not needed any more. 0: unmounted, or INIT has failed.
 */
static int await(struct loop_thread *t)
{
	struct loop *l = &t->fs->loop;
	int r = -EAGAIN;

	SCOPED_LOCK(&l->lock);
	while (r == -EAGAIN && !l->ended) {
		if (l->n_receiving < (l->crowd ? RECEIVERS : 1))
			r = receive_locked(t);
		else if (!l->lookout)
			r = look_out_locked(t);
		else if (!rest_locked(l))
			break;
	}
	if (r > 0)
		go_to_work_locked(t);
	else if (r < 0 && r != -EAGAIN)
		l->result = r;
	return r;
}

/* False: it has ended; unmounted, or INIT has failed. */
static bool serve(struct loop_thread *t)
{
	fuse_session_process_buf(t->fs->session, &t->buf);
	return !fuse_session_exited(t->fs->session);
}

static void *work(void *arg)
{
	struct loop_thread *t = arg;
	struct loop *l = &t->fs->loop;
	int r;

	pthread_mutex_lock(&l->lock);
	l->n_starting--;
	pthread_mutex_unlock(&l->lock);
	do
		r = await(t);
	while (r > 0 && serve(t));
	if (r != -EAGAIN)
		loop_end(t->fs);
	free(t->buf.mem);
	pthread_mutex_lock(&l->lock);
	t->state = LOOP_ENDED;
	l->n_serving--;
	pthread_cond_signal(&l->end);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* Has whoever is in a call for a request leave it, and waits for the rest to answer theirs. */
static void end_threads(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	while (l->n_serving) {
		const struct timespec until = clock_in_us(WAKE_US);

		for (unsigned k = 0; k < LOOP_THREADS_MOST; k++)
			if (l->threads[k].taking)
				(void)pthread_kill(l->threads[k].id, SIGUSR1);
		pthread_cond_timedwait(&l->end, &l->lock, &until);
	}
	pthread_mutex_unlock(&l->lock);
	for (unsigned k = 0; k < LOOP_THREADS_MOST; k++)
		if (l->threads[k].state == LOOP_ENDED)
			pthread_join(l->threads[k].id, NULL);
}

int loop_run(struct fs *fs)
{
	struct loop *l = &fs->loop;
	int r;

	pthread_mutex_lock(&l->lock);
	r = start_thread_locked(fs);
	while (r == 0 && !l->ended)
		pthread_cond_wait(&l->end, &l->lock);
	pthread_mutex_unlock(&l->lock);
	end_threads(l);
	return r < 0 ? r : l->result;
}
