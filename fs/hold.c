/* SPDX-License-Identifier: MIT */
#include "fs/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/open.h"
#include "fs/poll.h"
#include "fs/read.h"
#include "fs/reply.h"

void hold_init(struct hold *h)
{
	*h = (struct hold){0};
	list_init(&h->interrupted);
	list_init(&h->all);
}

static struct growth growth_of(const struct file *f)
{
	struct stat st;

	if (file_fd(f) < 0 || fstat(file_fd(f), &st) < 0)
		return (struct growth){0};
	return (struct growth){(uint64_t)st.st_size, st.st_mtim};
}

static bool is_same(const struct growth *a, const struct growth *b)
{
	return a->size == b->size && a->written.tv_sec == b->written.tv_sec &&
	       a->written.tv_nsec == b->written.tv_nsec;
}

struct waiter *hold_new(fuse_req_t req, struct file *f, struct handle *h)
{
	struct fs *fs = fs_of(req);
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct waiter){.req = req,
		.file = f,
		.handle = h,
		.deadline_ms = UINT64_MAX,
		.latest_ms = UINT64_MAX};
	list_init(&w->on_file);
	list_init(&w->on_clock);
	if (!fs->hold_limit_ms)
		return w;
	w->growth = growth_of(f);
	w->deadline_ms = clock_ms() + fs->hold_limit_ms;
	if (fs->system_limit_ms)
		w->latest_ms = clock_ms() + fs->system_limit_ms;
	return w;
}

static void list_locked(struct fs *fs, struct waiter *w)
{
	struct list *before = fs->hold.all.prev; /* nearly always the last */

	w->listed = true;
	list_add_tail(&w->file->waiters, &w->on_file);
	if (w->handle || w->first_byte)
		w->file->n_held++;
	while (before != &fs->hold.all &&
		list_entry(before, struct waiter, on_clock)->deadline_ms > w->deadline_ms)
		before = before->prev;
	list_add_tail(before->next, &w->on_clock);
}

static void unlist_locked(struct waiter *w)
{
	w->listed = false;
	list_del(&w->on_file);
	list_del(&w->on_clock);
	if (w->handle || w->first_byte)
		w->file->n_held--;
}

/* libfuse calls this with the request's lock held; see the order above. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct waiter *w = data;
	struct fs *fs = fs_of(req);
	bool ring;

	pthread_mutex_lock(&fs->files_lock);
	w->interrupted = true;
	ring = w->listed;
	if (ring) {
		unlist_locked(w);
		list_add_tail(&fs->hold.interrupted, &w->on_file);
	}
	pthread_mutex_unlock(&fs->files_lock);
	if (ring)
		watch_ring(&fs->watch);
}

/* The caller has taken w off its list. error: positive errno, 0 to answer by the rule. */
static void finish(struct fs *fs, struct waiter *w, int error)
{
	struct file *f = w->file;

	fuse_req_interrupt_func(w->req, NULL, NULL);
	if (w->handle) {
		if (error)
			reply_error(w->req, -error);
		else if (!read_answer(fs, w))
			return; /* held again */
	} else {
		if (error)
			reply_error(w->req, -error);
		else
			open_resume(fs, w);
		file_put(fs, f);
		free(w->fi);
	}
	free(w);
}

/* Whether it is worth asking the rule about w; size is the file's. */
static bool may_answer_locked(const struct waiter *w, uint64_t size)
{
	if (w->tries)
		return true;
	if (w->handle && w->file->n_changing)
		return false;
	if (w->file->state != FILE_GROWING || w->page)
		return true;
	if (!w->handle)
		return w->first_byte && size > 0 && w->file->hidden_from != 0;
	return w->offset + rule_needed(w->file->declared, w->offset, w->want) <= size ||
	       w->offset > w->handle->cut;
}

/* In the store, behind the mount's back. */
static bool was_cut_locked(const struct waiter *w, uint64_t size)
{
	return w->handle && w->handle->delivered > size;
}

/* Whether w, which has just been listed, missed something. */
static bool missed(struct fs *fs, struct file *f, const struct waiter *copy, uint64_t declared)
{
	struct stat st;
	size_t want = rule_needed(declared, copy->offset, copy->want);

	if (fstat(file_fd(f), &st) < 0 || (uint64_t)st.st_size < copy->offset + want)
		return false;
	if (!copy->handle)
		return copy->first_byte;
	if (holes_available(fs, f, copy->offset, want) >= (ssize_t)want)
		return true;
	watch_by_time(fs, f); /* in a hole: mmap may fill it without an event */
	return false;
}

void hold_request(struct fs *fs, struct waiter *w)
{
	struct file *f = w->file;
	struct waiter copy = *w;
	uint64_t declared;
	bool refused, changing, wake, earliest = false;

	fuse_req_interrupt_func(w->req, on_interrupt, w);
	pthread_mutex_lock(&fs->files_lock);
	refused = w->interrupted || fs->hold.stopping;
	copy.interrupted = w->interrupted;
	declared = f->declared;
	changing = f->n_changing;
	wake = !w->tries && may_answer_locked(w, 0);
	if (!refused) {
		list_locked(fs, w);
		earliest = fs->hold.all.next == &w->on_clock && w->deadline_ms != UINT64_MAX;
		file_ref_locked(f); /* w may be answered and freed once the lock is gone */
	}
	pthread_mutex_unlock(&fs->files_lock);
	if (refused) {
		finish(fs, w, copy.interrupted ? EINTR : ENOTCONN);
		return;
	}
	if (earliest)
		watch_ring(&fs->watch);
	if (copy.tries)
		watch_by_time(fs, f);
	else if (copy.handle || copy.first_byte)
		watch_arm(fs, f); /* others wait for the end, which comes by itself */
	if (wake || (!changing && missed(fs, f, &copy, declared)))
		hold_wake(fs, f);
	file_put(fs, f);
}

static bool somebody_waits(struct fs *fs, const struct file *f)
{
	SCOPED_LOCK(&fs->files_lock);
	return !list_is_empty(&f->waiters) || f->n_polled;
}

void hold_wake(struct fs *fs, struct file *f)
{
	struct stat st = {0};
	struct list ready;

	if (!somebody_waits(fs, f)) /* nobody whose look at the file came before this */
		return;
	list_init(&ready);
	if (file_fd(f) >= 0 && fstat(file_fd(f), &st) < 0)
		st.st_size = 0; /* the reads will tell, once they are asked again */
	pthread_mutex_lock(&fs->files_lock);
	list_for_each_safe (it, &f->waiters) {
		struct waiter *w = list_entry(it, struct waiter, on_file);

		if (!may_answer_locked(w, (uint64_t)st.st_size) &&
			!was_cut_locked(w, (uint64_t)st.st_size))
			continue;
		unlist_locked(w);
		list_add_tail(&ready, &w->on_file);
	}
	pthread_mutex_unlock(&fs->files_lock);
	list_for_each_safe (it, &ready) {
		struct waiter *w = list_entry(it, struct waiter, on_file);

		list_del(&w->on_file);
		finish(fs, w, 0);
	}
	poll_notify(fs, f);
}

static struct waiter *take_only_read(struct fs *fs, struct file *f)
{
	struct waiter *w;

	SCOPED_LOCK(&fs->files_lock);
	if (list_is_empty(&f->waiters) || f->waiters.next != f->waiters.prev)
		return NULL;
	w = list_entry(f->waiters.next, struct waiter, on_file);
	if (!w->handle || f->declared != RULE_NONE)
		return NULL;
	unlist_locked(w);
	return w;
}

void hold_wake_grown(struct fs *fs, struct file *f)
{
	struct waiter *w = take_only_read(fs, f);

	if (!w) {
		hold_wake(fs, f);
		return;
	}
	finish(fs, w, 0);
	poll_notify(fs, f);
}

void hold_answer_interrupted(struct fs *fs)
{
	for (;;) {
		struct waiter *w = NULL;

		pthread_mutex_lock(&fs->files_lock);
		if (!list_is_empty(&fs->hold.interrupted)) {
			w = list_entry(fs->hold.interrupted.next, struct waiter, on_file);
			list_del(&w->on_file);
		}
		pthread_mutex_unlock(&fs->files_lock);
		if (!w)
			return;
		finish(fs, w, EINTR);
	}
}

/* Takes the first waiter whose deadline has come, or NULL and the earliest deadline. */
static struct waiter *take_due(struct fs *fs, uint64_t now, uint64_t *ret_next)
{
	struct waiter *w;

	SCOPED_LOCK(&fs->files_lock);
	*ret_next = UINT64_MAX;
	if (list_is_empty(&fs->hold.all))
		return NULL;
	w = list_entry(fs->hold.all.next, struct waiter, on_clock);
	*ret_next = w->deadline_ms;
	if (w->deadline_ms > now)
		return NULL;
	unlist_locked(w);
	return w;
}

/*
 * Whether the file of w, whose time is up, was written to since the last deadline: then w is held
 * again. What was written may be too little for it, if a size is declared.
 */
static bool put_off(struct fs *fs, struct waiter *w, uint64_t now)
{
	struct growth growth = growth_of(w->file);

	if (is_same(&growth, &w->growth) || now >= w->latest_ms)
		return false;
	w->growth = growth;
	w->deadline_ms = now + fs->hold_limit_ms;
	if (w->deadline_ms > w->latest_ms)
		w->deadline_ms = w->latest_ms;
	fuse_req_interrupt_func(w->req, NULL, NULL);
	hold_request(fs, w);
	return true;
}

int hold_answer_timeouts(struct fs *fs)
{
	uint64_t now = clock_ms(), next;
	struct waiter *w;

	while ((w = take_due(fs, now, &next)))
		if (!put_off(fs, w, now))
			finish(fs, w, ETIMEDOUT);
	if (next == UINT64_MAX)
		return -1;
	return next - now > 60000 ? 60000 : (int)(next - now);
}

void hold_fail_all(struct fs *fs, int error)
{
	struct waiter *w;
	uint64_t next;

	pthread_mutex_lock(&fs->files_lock);
	fs->hold.stopping = true;
	pthread_mutex_unlock(&fs->files_lock);
	hold_answer_interrupted(fs);
	while ((w = take_due(fs, UINT64_MAX, &next)))
		finish(fs, w, error);
}
