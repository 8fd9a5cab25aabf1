/* SPDX-License-Identifier: MIT */
/*
 * The page at the end of a file is cached with zeros behind the end. When a direct write continues
 * the file, the kernel drops that page before it sends the write (fs/fuse/file.c, fuse_direct_io)
 * and moves i_size when it is answered. A reader through the page cache (a plain handle without
 * passthrough, or sendfile) that comes in between gets the page again as it was, and from then on
 * finds zeros where data is. So when pages of a file were asked for since its last write, the range
 * is dropped once more after the bytes are in the store and before the write is answered.
 *
 * An answer to stat that moves i_size is another way to zeros: the kernel clears what lies behind
 * the new end in the cached page without a lock that would keep later writes out (fs/fuse/inode.c,
 * fuse_change_attributes), so whoever asked may do so long after them. Hence no answer moves it:
 * stat shows the old size (attr.c) until the kernel was given the last byte for its cache, which
 * moves i_size and makes answers to earlier questions void. Whoever asks while that happens must
 * not get the old size any more, and waits; not for ever, for the cache waits for a page that is
 * being read, that is for a request handler, and they may all be there. This doubles the time of a
 * small write, so it is done while pages are being asked for: longer than any asker is kept from
 * the processor.
 *
 * For the same reason handlers do not touch the cache. The reply is queued, and the background
 * thread does it and replies, unless the session ends: then nobody serves that page any more. A job
 * owns a reference to its file; files lock.
 */
#include "fs/invalidate.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reply.h"

#define ASKED_MS 100

struct job {
	struct list on_queue;
	fuse_req_t req;
	struct file *file; /* referenced */
	uint64_t offset;
	size_t n;
};

void invalidate_note_page(struct fs *fs, struct file *f)
{
	pthread_mutex_lock(&fs->files_lock);
	f->page_asked = true;
	f->page_ms = clock_ms();
	pthread_mutex_unlock(&fs->files_lock);
}

void invalidate_begin(struct fs *fs, struct file *f)
{
	struct stat st;

	if (fstat(f->fd_write, &st) < 0)
		return;
	pthread_mutex_lock(&fs->files_lock);
	f->hidden_from = (uint64_t)st.st_size;
	pthread_mutex_unlock(&fs->files_lock);
}

void invalidate_cancel(struct fs *fs, struct file *f)
{
	SCOPED_LOCK(&fs->files_lock);
	f->hidden_from = RULE_NONE;
	f->size_moves = false;
	pthread_cond_broadcast(&fs->size_moved);
}

void invalidate_await_size_locked(struct fs *fs, const struct inode *i)
{
	struct timespec until;

	if (!i->file || !i->file->size_moves)
		return;
	until = clock_real_in_ms(20);
	while (i->file && i->file->size_moves &&
		pthread_cond_timedwait(&fs->size_moved, &fs->files_lock, &until) == 0)
		;
}

/* Has the kernel drop what it cached of the range, and take the new size. */
static void renew(struct fs *fs, const struct job *job)
{
	fuse_ino_t ino = fs_ino(fs, job->file->inode);
	struct fuse_bufvec byte = FUSE_BUFVEC_INIT(1);
	uint64_t end = job->offset + job->n;
	bool grows;
	char last;

	pthread_mutex_lock(&fs->files_lock);
	grows = end > job->file->hidden_from;
	job->file->size_moves = grows;
	pthread_mutex_unlock(&fs->files_lock);
	/* Both fail when the kernel has forgotten the file. */
	(void)fuse_lowlevel_notify_inval_inode(fs->session, ino, (off_t)job->offset, (off_t)job->n);
	byte.buf[0].mem = &last;
	if (grows && pread(job->file->fd_read, &last, 1, (off_t)end - 1) == 1)
		(void)fuse_lowlevel_notify_store(fs->session, ino, (off_t)end - 1, &byte, 0);
}

static void finish(struct fs *fs, const struct job *job)
{
	invalidate_cancel(fs, job->file);
	reply_written(job->req, job->n);
	hold_wake(fs, job->file);
	file_put(fs, job->file);
}

void invalidate_then_reply(fuse_req_t req, struct file *f, uint64_t offset, size_t n)
{
	struct fs *fs = fs_of(req);
	struct job now = {.req = req, .file = f, .offset = offset, .n = n}, *later = NULL;
	bool cached;

	pthread_mutex_lock(&fs->files_lock);
	cached = f->page_asked || clock_ms() - f->page_ms < ASKED_MS;
	f->page_asked = false;
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	if (cached)
		later = malloc(sizeof(*later));
	if (!later) { /* or without memory: then a reader may see zeros for a second */
		finish(fs, &now);
		return;
	}
	*later = now;
	pthread_mutex_lock(&fs->files_lock);
	list_add_tail(&fs->hold.invalidations, &later->on_queue);
	pthread_mutex_unlock(&fs->files_lock);
	watch_ring(&fs->watch);
}

void invalidate_run(struct fs *fs)
{
	for (;;) {
		struct job *job = NULL;

		pthread_mutex_lock(&fs->files_lock);
		if (!list_is_empty(&fs->hold.invalidations)) {
			job = list_entry(fs->hold.invalidations.next, struct job, on_queue);
			list_del(&job->on_queue);
		}
		pthread_mutex_unlock(&fs->files_lock);
		if (!job)
			return;
		if (!fuse_session_exited(fs->session))
			renew(fs, job);
		finish(fs, job);
		free(job);
	}
}
