/* SPDX-License-Identifier: MIT */
/*
 * The page at the end of a file is cached with zeros behind the end. When a direct write continues
 * the file, the kernel drops that page before it sends the write (fs/fuse/file.c, fuse_direct_io)
 * and moves i_size when it is answered. A reader through the page cache (a plain handle without
 * passthrough, or sendfile) that comes in between gets the page again as it was, and from then on
 * finds zeros where data is. So when pages of a file were asked for since its last write, the range
 * is dropped once more after the bytes are in the store and before the write is answered. Likewise
 * after a truncation, when a size is declared: the kernel is told that one, and so drops nothing.
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
 * For the same reason handlers do not touch the cache, nor does anybody else who may not wait for a
 * disk. The reply is queued, and a thread of its own does it and replies, unless the session ends:
 * then nobody serves that page any more. A job owns a reference to its file; files lock.
 *
 * That thread cannot be killed while the cache waits, nor the connection end before it: a daemon
 * that is killed meanwhile would leave everybody waiting. So it begins when no page there is being
 * read, but for those asked for after the write: nobody could keep a writer waiting by asking.
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

#define ASKED_MS   100
#define FOLIO_MOST ((uint64_t)1 << 20) /* what the cache locks at once is no larger */

struct job {
	struct list on_queue;
	fuse_req_t req;
	struct file *file; /* referenced */
	uint64_t offset;
	size_t n;
	uint64_t serial;
	bool cut;         /* req is about attributes, not about n bytes written */
	struct statx stx; /* these */
};

void invalidate_page_begin(
	struct fs *fs, struct page_read *p, struct file *f, uint64_t offset, size_t n)
{
	*p = (struct page_read){.file = f, .offset = offset, .end = offset + n};
	SCOPED_LOCK(&fs->files_lock);
	f->page_asked = true;
	f->page_ms = clock_ms();
	p->serial = ++fs->invalidator.serial;
	list_add_tail(&fs->invalidator.reading, &p->entry);
}

void invalidate_page_end(struct fs *fs, struct page_read *p)
{
	struct invalidator *v = &fs->invalidator;

	SCOPED_LOCK(&fs->files_lock);
	list_del(&p->entry);
	if (!list_is_empty(&v->queue))
		pthread_cond_signal(&v->more);
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
	pthread_cond_broadcast(&fs->invalidator.size_moved);
}

void invalidate_await_size_locked(struct fs *fs, const struct inode *i)
{
	struct timespec until;

	if (!i->file || !i->file->size_moves)
		return;
	until = clock_real_in_ms(20);
	while (i->file && i->file->size_moves &&
		pthread_cond_timedwait(&fs->invalidator.size_moved, &fs->files_lock, &until) == 0)
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
	if (job->cut) {
		reply_attr(job->req, job->file->inode, &job->stx);
	} else {
		invalidate_cancel(fs, job->file);
		reply_written(job->req, job->n);
		hold_wake(fs, job->file);
	}
	file_put(fs, job->file);
}

/* Takes a copy of job, whose file is referenced for it, unless memory is short. */
static bool do_later(struct fs *fs, const struct job *job)
{
	struct job *later = malloc(sizeof(*later));

	if (!later)
		return false;
	*later = *job;
	SCOPED_LOCK(&fs->files_lock);
	later->serial = ++fs->invalidator.serial;
	list_add_tail(&fs->invalidator.queue, &later->on_queue);
	pthread_cond_signal(&fs->invalidator.more);
	return true;
}

void invalidate_then_reply(fuse_req_t req, struct file *f, uint64_t offset, size_t n)
{
	struct fs *fs = fs_of(req);
	struct job job = {.req = req, .file = f, .offset = offset, .n = n};
	bool cached;

	pthread_mutex_lock(&fs->files_lock);
	cached = f->page_asked || clock_ms() - f->page_ms < ASKED_MS;
	f->page_asked = false;
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	if (!cached || !do_later(fs, &job)) /* without memory a reader may see zeros for a second */
		finish(fs, &job);
}

void invalidate_cut_then_reply(
	fuse_req_t req, struct file *f, uint64_t size, const struct statx *stx)
{
	struct fs *fs = fs_of(req);
	struct job job = {.req = req,
		.file = f,
		.offset = size,
		.n = stx->stx_size - size,
		.cut = true,
		.stx = *stx};

	pthread_mutex_lock(&fs->files_lock);
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	if (!do_later(fs, &job))
		finish(fs, &job);
}

void invalidate_attributes(struct fs *fs, struct inode *i)
{
	/* From -1 on: no page. Fails when the kernel does not know it. */
	(void)fuse_lowlevel_notify_inval_inode(fs->session, fs_ino(fs, i), -1, 0);
}

/* -- the thread ------------------------------------------------------------------------------- */

static bool is_being_read_locked(const struct invalidator *v, const struct job *job)
{
	list_for_each (it, &v->reading) {
		const struct page_read *p = list_entry(it, struct page_read, entry);

		if (p->file == job->file && p->serial < job->serial &&
			p->offset < job->offset + job->n + FOLIO_MOST &&
			job->offset < p->end + FOLIO_MOST)
			return true;
	}
	return false;
}

static struct job *ready_job_locked(const struct invalidator *v)
{
	list_for_each (it, &v->queue) {
		struct job *job = list_entry(it, struct job, on_queue);

		if (!is_being_read_locked(v, job))
			return job;
	}
	return NULL;
}

/* Waits for one. NULL: there is none, and it is over. */
static struct job *next_job(struct fs *fs)
{
	struct invalidator *v = &fs->invalidator;
	struct job *job;

	SCOPED_LOCK(&fs->files_lock);
	while (!(job = ready_job_locked(v))) {
		if (v->stop)
			return NULL;
		pthread_cond_wait(&v->more, &fs->files_lock);
	}
	list_del(&job->on_queue);
	return job;
}

static bool set_renewing(struct fs *fs, bool renewing)
{
	struct invalidator *v = &fs->invalidator;

	SCOPED_LOCK(&fs->files_lock);
	v->renewing = renewing && !v->ending && !fuse_session_exited(fs->session);
	return v->renewing;
}

static void *invalidate_main(void *arg)
{
	struct fs *fs = arg;
	struct job *job;

	while ((job = next_job(fs))) {
		if (set_renewing(fs, true))
			renew(fs, job);
		(void)set_renewing(fs, false);
		finish(fs, job);
		free(job);
	}
	return NULL;
}

bool invalidate_end(struct fs *fs)
{
	SCOPED_LOCK(&fs->files_lock);
	fs->invalidator.ending = true;
	return !fs->invalidator.renewing;
}

int invalidate_start(struct fs *fs)
{
	struct invalidator *v = &fs->invalidator;
	int r;

	pthread_cond_init(&v->more, NULL);
	pthread_cond_init(&v->size_moved, NULL);
	list_init(&v->queue);
	list_init(&v->reading);
	r = -pthread_create(&v->thread, NULL, invalidate_main, fs);
	v->started = r == 0;
	return r;
}

void invalidate_stop(struct fs *fs)
{
	struct invalidator *v = &fs->invalidator;

	pthread_mutex_lock(&fs->files_lock);
	v->stop = true;
	pthread_cond_signal(&v->more);
	pthread_mutex_unlock(&fs->files_lock);
	if (v->started)
		pthread_join(v->thread, NULL);
	pthread_cond_destroy(&v->more);
	pthread_cond_destroy(&v->size_moved);
}
