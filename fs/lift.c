/* SPDX-License-Identifier: MIT */
/*
 * sendfile(2) and splice(2) at the size that the kernel knows of a file return 0 without asking
 * anybody (mm/filemap.c, filemap_splice_read). Below it they ask for a page, which the rule
 * refuses with EINVAL while the file grows, and then programs fall back to read(2), which waits. So
 * only a file that is still empty is a trap: busybox cat, shutil.copyfile and others begin with
 * sendfile, and would copy nothing and be content.
 *
 * Therefore, while such a file has followers, the kernel is made to believe that it has two bytes,
 * by FUSE_NOTIFY_STORE of the second (fs/fuse/dev.c, fuse_notify_store; a page that is not stored
 * from its beginning is not marked up to date, so the byte itself is never seen). stat(2) goes on
 * to tell the truth: the store raises the inode's attr_version, so the kernel does not apply the
 * answer of a request that was sent before it, but hands that answer to stat's caller
 * (fs/fuse/inode.c, fuse_change_attributes_i; fs/fuse/dir.c, fuse_do_getattr). Hence the order:
 * lift, then reply.
 *
 * lseek(SEEK_END) is the one place where a user would see the lifted size; the kernel asks for it
 * with a file handle (fuse_file_llseek), stat never does: attr.c answers that without lifting, so
 * the kernel takes the true size, and lifts afterwards. Without passthrough the kernel also places
 * O_APPEND writes by its size, so a file with such a writer is not lifted. Once two bytes are
 * written the true size rules again.
 *
 * The store waits for the page while somebody reads it, which is until a request handler refuses
 * that read. So handlers never lift: they queue the reply, and the background thread lifts and
 * replies. A job owns references to what it names; the queue is under the files lock.
 */
#include "fs/lift.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reply.h"

enum kind { LIFT_ONLY, LIFT_ATTR, LIFT_ENTRY, LIFT_OPEN };

struct lift_job {
	struct list on_queue;
	enum kind kind;
	fuse_req_t req;
	struct inode *inode; /* referenced */
	struct handle *handle;
	struct statx stx;
	struct fuse_file_info fi;
};

bool lift_is_needed(struct fs *fs, struct inode *i, const struct statx *stx)
{
	bool followed = false;

	if (stx->stx_size || !S_ISREG(stx->stx_mode))
		return false;
	SCOPED_LOCK(&fs->files_lock);
	if (!i->file || i->file->state != FILE_GROWING || i->file->declared != RULE_NONE)
		return false;
	list_for_each (it, &i->file->handles) {
		const struct handle *h = list_entry(it, struct handle, on_file);

		if (h->kind == HANDLE_WRITER && h->append && !file_is_passthrough(i->file))
			return false;
		followed |= h->kind == HANDLE_FOLLOWER;
	}
	return followed;
}

static void answer(struct fs *fs, struct lift_job *job)
{
	switch (job->kind) {
	case LIFT_ONLY:
		break;
	case LIFT_ATTR:
		reply_attr(job->req, &job->stx);
		break;
	case LIFT_ENTRY:
		reply_entry(job->req, job->inode, &job->stx);
		break;
	case LIFT_OPEN:
		if (reply_open(job->req, &job->fi) < 0)
			file_remove_handle(fs, job->handle);
		break;
	}
}

/* Queues the job if i has to be lifted, otherwise or without memory answers it here. */
static void run_or_queue(struct fs *fs, const struct lift_job *job)
{
	struct lift_job *copy = NULL;

	if (lift_is_needed(fs, job->inode, &job->stx))
		copy = malloc(sizeof(*copy));
	if (!copy) {
		struct lift_job now = *job;

		answer(fs, &now);
		return;
	}
	*copy = *job;
	inode_ref(&fs->inodes, job->inode);
	pthread_mutex_lock(&fs->files_lock);
	list_add_tail(&fs->hold.lifts, &copy->on_queue);
	pthread_mutex_unlock(&fs->files_lock);
	watch_ring(&fs->watch);
}

void lift_run(struct fs *fs)
{
	for (;;) {
		char byte = 0;
		struct fuse_bufvec one = FUSE_BUFVEC_INIT(1);
		struct lift_job *job = NULL;

		pthread_mutex_lock(&fs->files_lock);
		if (!list_is_empty(&fs->hold.lifts)) {
			job = list_entry(fs->hold.lifts.next, struct lift_job, on_queue);
			list_del(&job->on_queue);
		}
		pthread_mutex_unlock(&fs->files_lock);
		if (!job)
			return;
		one.buf[0].mem = &byte;
		/* Fails when the kernel has just forgotten the inode. */
		(void)fuse_lowlevel_notify_store(fs->session, fs_ino(fs, job->inode), 1, &one, 0);
		answer(fs, job);
		inode_unref(&fs->inodes, job->inode);
		free(job);
	}
}

void lift_reply_attr(fuse_req_t req, struct inode *i, const struct statx *stx)
{
	struct lift_job job = {.kind = LIFT_ATTR, .req = req, .inode = i, .stx = *stx};

	run_or_queue(fs_of(req), &job);
}

void lift_reply_true_attr(fuse_req_t req, struct inode *i, const struct statx *stx)
{
	struct fs *fs = fs_of(req);
	struct lift_job job = {.kind = LIFT_ONLY, .inode = i, .stx = *stx};

	inode_ref(&fs->inodes, i);
	reply_attr(req, stx);
	run_or_queue(fs, &job);
	inode_unref(&fs->inodes, i);
}

void lift_reply_entry(fuse_req_t req, struct inode *i, const struct statx *stx)
{
	struct lift_job job = {.kind = LIFT_ENTRY, .req = req, .inode = i, .stx = *stx};

	run_or_queue(fs_of(req), &job);
}

void lift_reply_open(fuse_req_t req, struct handle *h, const struct fuse_file_info *fi)
{
	struct lift_job job = {
		.kind = LIFT_OPEN, .req = req, .inode = h->file->inode, .handle = h, .fi = *fi};
	struct stat st;

	job.stx.stx_mode = S_IFREG;
	job.stx.stx_size = 1; /* unknown: not to be lifted */
	if (h->kind == HANDLE_FOLLOWER && fstat(file_fd(h->file), &st) == 0)
		job.stx.stx_size = (uint64_t)st.st_size;
	run_or_queue(fs_of(req), &job);
}
