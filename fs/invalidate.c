/* SPDX-License-Identifier: MIT */
/*
 * The page at the end of a file is cached with zeros behind the end. When a direct write continues
 * the file, the kernel drops that page before it sends the write (fs/fuse/file.c, fuse_direct_io)
 * and moves i_size when it is answered. A reader through the page cache (a plain handle without
 * passthrough, or sendfile) that comes in between gets the page again as it was, and from then on
 * finds zeros where data is. So when the end of a file was given to the page cache since its last
 * write, the range is dropped once more after the bytes are in the store and before the write is
 * answered; and until then stat shows the old size (attr.c), for the kernel takes i_size from that
 * as well.
 *
 * Dropping waits for a page that is being read, that is for a request handler; so handlers do not
 * drop. The reply is queued, and the background thread drops and replies, unless the session ends:
 * then nobody serves that page any more. A job owns a reference to its file; files lock.
 */
#include "fs/invalidate.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reply.h"

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
	f->end_cached = true;
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
	pthread_mutex_lock(&fs->files_lock);
	f->hidden_from = RULE_NONE;
	pthread_mutex_unlock(&fs->files_lock);
}

static void run(struct fs *fs, const struct job *job, bool drop)
{
	if (drop) /* fails when there is nothing to drop */
		(void)fuse_lowlevel_notify_inval_inode(fs->session, fs_ino(fs, job->file->inode),
			(off_t)job->offset, (off_t)job->n);
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
	cached = f->end_cached;
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	if (cached)
		later = malloc(sizeof(*later));
	if (!later) { /* or without memory: then a reader may see zeros for a second */
		run(fs, &now, false);
		return;
	}
	*later = now;
	pthread_mutex_lock(&fs->files_lock);
	f->end_cached = false;
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
		run(fs, job, !fuse_session_exited(fs->session));
		free(job);
	}
}
