/* SPDX-License-Identifier: MIT */
#include "fs/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/poll.h"

#define TICK_MS      20
#define LOOK_MS      250
#define LOOK_AT_ONCE 64
#define ENDING_TICKS 25 /* half a second, however much is still asked */

static struct list *bucket_of(struct watch *w, int wd)
{
	return &w->by_wd[(unsigned)wd % WATCH_BUCKETS];
}

void watch_ring(struct watch *w)
{
	uint64_t one = 1;

	if (write(w->ring_fd, &one, sizeof(one)) < 0) {
		/* EAGAIN: it rings already */
	}
}

/* Adds the inotify watch; watch lock held. */
static int add_watch_locked(struct fs *fs, struct file *f)
{
	struct watch *w = &fs->watch;
	char link[32];

	if (w->inotify_fd < 0)
		return -ENOSYS;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", file_fd(f));
	f->wd = inotify_add_watch(w->inotify_fd, link, IN_MODIFY);
	if (f->wd >= 0) {
		list_add_tail(bucket_of(w, f->wd), &f->by_wd);
		return 0;
	}
	if (!w->refused_said)
		log_warn("inotify refused a watch (%s): looking every %d ms instead",
			strerror(errno), TICK_MS);
	w->refused_said = true;
	return -ENOSPC;
}

/* Events that are queued already find nothing. */
static void remove_watch_locked(struct watch *w, struct file *f)
{
	(void)inotify_rm_watch(w->inotify_fd, f->wd); /* EINVAL: the kernel dropped it */
	list_del(&f->by_wd);
	f->wd = -1;
}

void watch_arm(struct fs *fs, struct file *f)
{
	int r = 0;
	bool first;

	if (!file_is_passthrough(f))
		return; /* every write passes the daemon, which wakes */
	pthread_mutex_lock(&fs->watch.lock);
	if (f->wd < 0)
		r = add_watch_locked(fs, f);
	first = !fs->watch.looking;
	fs->watch.looking = true;
	pthread_mutex_unlock(&fs->watch.lock);
	if (r < 0)
		watch_by_time(fs, f);
	else if (first)
		watch_ring(&fs->watch);
}

void watch_by_time(struct fs *fs, struct file *f)
{
	bool first;

	pthread_mutex_lock(&fs->files_lock);
	first = list_is_empty(&fs->watch.timed);
	if (!list_is_linked(&f->timed))
		list_add_tail(&fs->watch.timed, &f->timed);
	pthread_mutex_unlock(&fs->files_lock);
	if (first)
		watch_ring(&fs->watch); /* start ticking */
}

void watch_disarm_locked(struct fs *fs, struct file *f)
{
	list_del(&f->timed);
	pthread_mutex_lock(&fs->watch.lock);
	if (f->wd >= 0)
		remove_watch_locked(&fs->watch, f);
	pthread_mutex_unlock(&fs->watch.lock);
}

/* Whether growth, not just the end, matters to anybody. */
static bool somebody_waits_locked(const struct file *f)
{
	return f->n_held || poll_waits_for_growth_locked(f);
}

static struct file *find_locked(struct watch *w, int wd)
{
	list_for_each (it, bucket_of(w, wd)) {
		struct file *f = list_entry(it, struct file, by_wd);

		if (f->wd == wd)
			return f;
	}
	return NULL;
}

/* The file behind wd was written to. If nobody waits for that any more, it was the last event. */
static void on_modified(struct fs *fs, int wd)
{
	struct file *f;

	pthread_mutex_lock(&fs->files_lock);
	pthread_mutex_lock(&fs->watch.lock);
	f = find_locked(&fs->watch, wd);
	if (f && somebody_waits_locked(f)) {
		file_ref_locked(f);
	} else if (f) {
		remove_watch_locked(&fs->watch, f);
		f = NULL;
	}
	pthread_mutex_unlock(&fs->watch.lock);
	pthread_mutex_unlock(&fs->files_lock);
	if (f) {
		hold_wake_grown(fs, f);
		file_put(fs, f);
	}
}

/* Events were lost, so any watch may have fired unheard: look at all of those files. */
static void on_overflow(struct fs *fs)
{
	struct watch *w = &fs->watch;

	log_warn("inotify queue overflow: looking at every file that is waited for");
	pthread_mutex_lock(&fs->files_lock);
	pthread_mutex_lock(&w->lock);
	for (int b = 0; b < WATCH_BUCKETS; b++)
		list_for_each_safe (it, &w->by_wd[b]) {
			struct file *f = list_entry(it, struct file, by_wd);

			remove_watch_locked(w, f);
			if (!list_is_linked(&f->timed))
				list_add_tail(&w->timed, &f->timed);
		}
	pthread_mutex_unlock(&w->lock);
	pthread_mutex_unlock(&fs->files_lock);
	watch_ring(w); /* start ticking */
}

static void *growth_main(void *arg)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct fs *fs = arg;
	struct watch *w = &fs->watch;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		ssize_t n = read(w->inotify_fd, buf, sizeof(buf));

		for (char *p = buf; n > 0 && p < buf + n;) {
			struct inotify_event *e = (struct inotify_event *)(void *)p;

			if (e->mask & IN_Q_OVERFLOW)
				on_overflow(fs);
			else if (e->mask & IN_MODIFY)
				on_modified(fs, e->wd);
			p += sizeof(*e) + e->len;
		}
	}
	return NULL;
}

/* Looks at every file that is watched by time; tells whether any is left. */
static bool tick(struct fs *fs)
{
	struct list round;
	bool any;

	list_init(&round);
	pthread_mutex_lock(&fs->files_lock);
	while (!list_is_empty(&fs->watch.timed)) {
		struct file *f = list_entry(fs->watch.timed.next, struct file, timed);

		list_del(&f->timed);
		list_add_tail(&round, &f->timed);
		file_ref_locked(f);
	}
	pthread_mutex_unlock(&fs->files_lock);
	for (;;) {
		struct file *f = NULL;

		pthread_mutex_lock(&fs->files_lock);
		if (!list_is_empty(&round)) {
			f = list_entry(round.next, struct file, timed);
			list_del(&f->timed);
			if (!list_is_empty(&f->waiters) || f->n_polled)
				list_add_tail(&fs->watch.timed, &f->timed);
		}
		any = !list_is_empty(&fs->watch.timed);
		pthread_mutex_unlock(&fs->files_lock);
		if (!f)
			return any;
		hold_wake(fs, f);
		file_put(fs, f);
	}
}

/* Up to LOOK_AT_ONCE armed files that were not looked at in this round, with references. Where
 * nobody waits any more nothing may ever be written again: they are not armed any longer. */
static size_t take_armed(struct fs *fs, struct file **ret)
{
	struct watch *w = &fs->watch;
	size_t n = 0;

	SCOPED_LOCK(&fs->files_lock);
	pthread_mutex_lock(&w->lock);
	list_for_each (it, &fs->files) {
		struct file *f = list_entry(it, struct file, on_all);

		if (f->wd < 0 || f->look == w->look || n == LOOK_AT_ONCE)
			continue;
		f->look = w->look;
		if (somebody_waits_locked(f))
			ret[n++] = file_ref_locked(f);
		else
			remove_watch_locked(w, f);
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

static void set_looking(struct watch *w, bool looking)
{
	pthread_mutex_lock(&w->lock);
	w->looking = looking;
	pthread_mutex_unlock(&w->lock);
}

/*
 * splice(2) and sendfile(2) into a passthrough handle raise no event in the store
 * (fs/backing-file.c tells nobody): files that are waited for are looked at now and then as well.
 * Returns milliseconds to the next time, -1 for none.
 */
static int look_at_armed(struct fs *fs)
{
	struct watch *w = &fs->watch;
	struct file *some[LOOK_AT_ONCE];
	uint64_t now = clock_ms();
	struct stat st;
	bool any = false;
	size_t n;

	if (now < w->look_ms)
		return (int)(w->look_ms - now);
	w->look_ms = now + LOOK_MS;
	w->look++;
	set_looking(w, false); /* one that is armed from here on rings */
	do {
		n = take_armed(fs, some);
		any |= n > 0;
		for (size_t k = 0; k < n; k++) {
			struct file *f = some[k];

			if (fstat(file_fd(f), &st) == 0 && (uint64_t)st.st_size != f->looked_size) {
				f->looked_size = (uint64_t)st.st_size;
				hold_wake(fs, f);
			}
			file_put(fs, f);
		}
	} while (n == LOOK_AT_ONCE);
	if (!any)
		return -1;
	set_looking(w, true);
	return LOOK_MS;
}

static void on_signal(struct fs *fs)
{
	struct signalfd_siginfo info;

	if (read(fs->watch.signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	fs->watch.ending = true;
	hold_fail_all(fs, ENOTCONN);
}

/* After the signal, every tick. What was asked before it is answered first: that may be the RELEASE
 * of a writer. */
static void try_to_end(struct fs *fs)
{
	struct watch *w = &fs->watch;
	struct pollfd asked = {.fd = fuse_session_fd(fs->session), .events = POLLIN};

	w->quiet_ticks = poll(&asked, 1, 0) == 0 ? w->quiet_ticks + 1 : 0;
	if (w->quiet_ticks < 2 && ++w->ending_ticks < ENDING_TICKS)
		return;
	if (invalidate_end(fs))
		loop_end(fs);
}

/* Of two times to wait, -1 being for ever. */
static int sooner(int a, int b)
{
	return b < 0 || (a >= 0 && a < b) ? a : b;
}

static void *watch_main(void *arg)
{
	struct fs *fs = arg;
	struct watch *w = &fs->watch;
	struct epoll_event ready[4];
	bool ticking = false;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		int timeout = hold_answer_timeouts(fs), n;

		timeout = sooner(timeout, end_linger(fs, false));
		timeout = sooner(timeout, look_at_armed(fs));
		if ((ticking || w->ending) && (timeout < 0 || timeout > TICK_MS))
			timeout = TICK_MS;
		n = epoll_wait(w->epoll_fd, ready, 4, timeout);
		for (int i = 0; i < n; i++) {
			uint64_t rings;

			if (ready[i].data.fd == w->signal_fd)
				on_signal(fs);
			else if (read(w->ring_fd, &rings, sizeof(rings)) > 0)
				hold_answer_interrupted(fs);
		}
		ticking = tick(fs);
		if (w->ending)
			try_to_end(fs);
	}
	return NULL;
}

static int watch_descriptor(struct watch *w, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* What makes the growth thread's read return at the end: the removal of a watch is an event. */
static int start_growth(struct fs *fs)
{
	struct watch *w = &fs->watch;
	int r = 0;

	w->inotify_fd = inotify_init1(IN_CLOEXEC);
	w->stop_wd = -1;
	if (w->inotify_fd >= 0)
		w->stop_wd = inotify_add_watch(w->inotify_fd, "/", IN_DELETE_SELF);
	if (w->stop_wd < 0)
		log_warn("no inotify (%s): looking every %d ms instead", strerror(errno), TICK_MS);
	else
		r = -pthread_create(&w->growth_thread, NULL, growth_main, fs);
	if ((w->stop_wd < 0 || r < 0) && w->inotify_fd >= 0)
		(void)close(steal_fd(&w->inotify_fd)); /* nothing was written to it */
	return r;
}

int watch_start(struct fs *fs)
{
	struct watch *w = &fs->watch;
	sigset_t signals;
	int r;

	pthread_mutex_init(&w->lock, NULL);
	for (int b = 0; b < WATCH_BUCKETS; b++)
		list_init(&w->by_wd[b]);
	list_init(&w->timed);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	w->ring_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->inotify_fd = -1;
	if (w->ring_fd < 0 || w->signal_fd < 0 || w->epoll_fd < 0)
		return -errno;
	r = watch_descriptor(w, w->ring_fd);
	if (r == 0)
		r = watch_descriptor(w, w->signal_fd);
	if (r == 0)
		r = -pthread_create(&w->thread, NULL, watch_main, fs);
	w->started = r == 0;
	return r == 0 ? start_growth(fs) : r;
}

void watch_stop(struct fs *fs)
{
	struct watch *w = &fs->watch;

	if (w->started) {
		__atomic_store_n(&w->stop, true, __ATOMIC_RELEASE);
		watch_ring(w);
		pthread_join(w->thread, NULL);
		w->started = false;
	}
	if (w->inotify_fd >= 0) {
		(void)inotify_rm_watch(w->inotify_fd, w->stop_wd); /* it is there */
		pthread_join(w->growth_thread, NULL);
	}
	hold_fail_all(fs, ENOTCONN); /* of a connection that was aborted: nobody hears it */
}

void watch_done(struct fs *fs)
{
	struct watch *w = &fs->watch;

	for (size_t i = 0; i < 4; i++) {
		int *fd = (int *[]){&w->ring_fd, &w->signal_fd, &w->epoll_fd, &w->inotify_fd}[i];

		if (*fd >= 0)
			(void)close(steal_fd(fd)); /* nothing was written to them */
	}
	pthread_mutex_destroy(&w->lock);
}
