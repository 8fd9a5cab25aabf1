/* SPDX-License-Identifier: MIT */
/*
 * The kernel asks for a handle's readiness with POLL, and leaves a pollhandle when somebody goes to
 * sleep on it; a notification on that makes it ask again. A handle keeps the last one. As with
 * reads: the pollhandle is put down first, then the watch is armed, then the answer is found, so
 * growth is either in the answer or rings afterwards.
 */
#include "fs/poll.h"

#include <poll.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/reply.h"
#include "fs/status.h"

#define READABLE (POLLIN | POLLRDNORM)
#define WRITABLE (POLLOUT | POLLWRNORM)

/* A follower is readable when a read where the last one ended would not be held. How much it may
 * ask for, which matters below a declared size, shows the last one if it had to be refused. */
static unsigned follower_events(struct fs *fs, struct handle *h)
{
	struct file *f = h->file;
	enum file_state state;
	uint64_t pos;
	size_t needed;
	ssize_t n;
	bool cut;

	pthread_mutex_lock(&fs->files_lock);
	state = f->state;
	pos = h->pos;
	needed = rule_needed(f->declared, pos, h->asked ? h->asked : 1);
	cut = pos > h->cut;
	pthread_mutex_unlock(&fs->files_lock);
	if (state == FILE_ABORTED)
		return READABLE | POLLERR;
	if (state == FILE_COMPLETE)
		return READABLE | POLLHUP;
	n = holes_available(fs, f, pos, needed);
	return cut || n < 0 || (size_t)n >= needed ? READABLE : 0;
}

/*
 * A plain handle of a growing file is readable when it has grown since the handle was told so. It
 * may be epoll_ctl(2) that asks, whose answer nobody sees (epoll_wait asks again), so an answer
 * counts as told the second time. Who does not ask for growth is not told.
 */
static unsigned plain_events(struct fs *fs, struct handle *h, bool wants_growth)
{
	struct file *f = h->file;
	struct stat st = {0};
	unsigned events = 0;

	if (fstat(file_fd(f), &st) < 0)
		return READABLE | POLLERR;
	SCOPED_LOCK(&fs->files_lock);
	h->was_growing |= f->state != FILE_COMPLETE;
	if (!h->was_growing)
		return READABLE | WRITABLE; /* as any regular file */
	if (f->state == FILE_GROWING) {
		if (!wants_growth)
			return 0;
		if ((uint64_t)st.st_size > h->told)
			events = READABLE;
		if (h->shown == (uint64_t)st.st_size)
			h->told = (uint64_t)st.st_size;
		h->shown = (uint64_t)st.st_size;
	} else {
		events = READABLE | (f->state == FILE_ABORTED ? POLLERR : POLLHUP);
	}
	return events;
}

static bool waits_for_growth(struct fs *fs, struct handle *h)
{
	SCOPED_LOCK(&fs->files_lock);
	return h->growth_polled && h->kind != HANDLE_WRITER && h->file->state == FILE_GROWING;
}

void poll_poll(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct fs *fs = fs_of(req);
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;
	struct fuse_pollhandle *old = ph;
	const bool wants_growth = fi->poll_events & READABLE;
	unsigned events;

	if (ino == fs_ino(fs, &fs->status_file)) {
		if (ph)
			fuse_pollhandle_destroy(ph);
		reply_poll(req, READABLE);
		return;
	}
	if (ph) {
		pthread_mutex_lock(&fs->files_lock);
		old = h->ph;
		h->ph = ph;
		h->poll_number = ++h->file->polls;
		/* Whoever left the one before may be asleep still. */
		h->growth_polled = (old && h->growth_polled) || wants_growth;
		if (!old)
			h->file->n_polled++;
		pthread_mutex_unlock(&fs->files_lock);
		if (old)
			fuse_pollhandle_destroy(old);
		if (waits_for_growth(fs, h))
			watch_arm(fs, h->file);
	}
	if (h->kind == HANDLE_WRITER)
		events = READABLE | WRITABLE;
	else if (h->kind == HANDLE_FOLLOWER)
		events = follower_events(fs, h);
	else
		events = plain_events(fs, h, wants_growth);
	reply_poll(req, events);
}

/* Takes the pollhandle of one handle of f that is not newer than last, NULL when none is left. */
static struct fuse_pollhandle *take(struct fs *fs, struct file *f, uint64_t last)
{
	SCOPED_LOCK(&fs->files_lock);
	if (!f->n_polled)
		return NULL;
	list_for_each (it, &f->handles) {
		struct handle *h = list_entry(it, struct handle, on_file);

		if (h->ph && h->poll_number <= last &&
			(h->growth_polled || f->state != FILE_GROWING)) {
			f->n_polled--;
			return steal_ptr(&h->ph);
		}
	}
	return NULL;
}

void poll_notify(struct fs *fs, struct file *f)
{
	struct fuse_pollhandle *ph;
	uint64_t last;

	pthread_mutex_lock(&fs->files_lock);
	last = f->polls; /* who asks again meanwhile was answered meanwhile */
	pthread_mutex_unlock(&fs->files_lock);
	while ((ph = take(fs, f, last))) {
		(void)fuse_lowlevel_notify_poll(ph); /* fails when the poller has gone */
		fuse_pollhandle_destroy(ph);
	}
}

bool poll_waits_for_growth_locked(const struct file *f)
{
	if (!f->n_polled)
		return false;
	list_for_each (it, &f->handles) {
		const struct handle *h = list_entry(it, struct handle, on_file);

		if (h->ph && h->growth_polled && h->kind != HANDLE_WRITER)
			return true;
	}
	return false;
}
