/* SPDX-License-Identifier: MIT */
/*
 * Changes of data that pass the daemon: all of them without passthrough; with it fallocate and
 * copy_file_range. Each keeps file->unwritten true (holes.c) and wakes those who wait. Order: what
 * a write skips is noted before its bytes can be seen, what it fills is forgotten afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/creds.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/invalidate.h"
#include "fs/reply.h"

/* A copy is seen when it is done, so a long one is done in pieces: a short count is no end. */
#define COPY_MAX ((size_t)16 << 20)

/* Once a request is answered its handle may be closed: what comes after holds a reference. */
static struct file *keep(struct fs *fs, struct file *f)
{
	SCOPED_LOCK(&fs->files_lock);
	return file_ref_locked(f);
}

static void wake_and_let_go(struct fs *fs, struct file *f)
{
	hold_wake(fs, f);
	file_put(fs, f);
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* Bytes at offset are about to be written: what lies between the end and them is not. */
static int writing(struct fs *fs, struct file *f, uint64_t offset)
{
	if (file_is_passthrough(f))
		return 0; /* the store shows holes, and f->end is not kept */
	SCOPED_LOCK(&fs->files_lock);
	return offset > f->end ? ranges_add(&f->unwritten, f->end, offset) : 0;
}

static void written(struct fs *fs, struct file *f, uint64_t offset, uint64_t n)
{
	pthread_mutex_lock(&fs->files_lock);
	(void)ranges_remove(&f->unwritten, offset, offset + n); /* -ENOMEM: held till the end */
	if (offset + n > f->end)
		f->end = offset + n;
	pthread_mutex_unlock(&fs->files_lock);
}

static ssize_t write_at(
	fuse_req_t req, struct file *f, const struct iovec *iov, off_t offset, int flags)
{
	struct creds creds;
	struct stat st;
	bool set_id = fstat(f->fd_write, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID));
	ssize_t n;

	if (set_id)
		creds_take_for_data(req, &creds);
	else
		creds_take_for_bytes(req, &creds);
	n = pwritev2(f->fd_write, iov, 1, offset, flags);
	n = n < 0 ? -errno : n;
	creds_give_back(&creds);
	return n;
}

void write_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct file *f = handle_of(fi)->file;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	bool append = (fi->flags & O_APPEND) && !fi->writepage;
	int flags = append ? RWF_APPEND : 0;
	struct stat st;
	off_t at = offset;
	ssize_t n = 0;

	if ((fi->flags & O_SYNC) == O_SYNC)
		flags |= RWF_SYNC;
	else if (fi->flags & O_DSYNC)
		flags |= RWF_DSYNC;
	invalidate_begin(fs, f);
	pthread_rwlock_rdlock(&f->io);
	if (!append)
		n = writing(fs, f, (uint64_t)offset);
	if (n == 0)
		n = write_at(req, f, &iov, offset, flags);
	if (n > 0 && append && fstat(f->fd_write, &st) == 0)
		at = st.st_size > n ? st.st_size - n : 0; /* the kernel sends one at a time */
	if (n > 0) /* an append, too: a write that failed may have been going to skip this */
		written(fs, f, (uint64_t)at, (uint64_t)n);
	pthread_rwlock_unlock(&f->io);
	if (n < 0) {
		invalidate_cancel(fs, f);
		reply_error(req, (int)n);
		return;
	}
	invalidate_then_reply(req, f, (uint64_t)at, (size_t)n);
}

void write_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = handle_of(fi);

	if (ino == fs_ino(fs, &fs->status_file))
		reply_error(req, 0); /* it has no struct handle */
	else
		reply_error(req, file_sync(h->file, h, datasync));
}

/*
 * What has no bytes of anybody now. Behind the end that matters with passthrough alone: there,
 * blocks that wait for the file to grow look written once they were read.
 */
static int note_allocation(
	struct fs *fs, struct file *f, int mode, uint64_t start, uint64_t end, uint64_t size)
{
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return holes_note(fs, f, start, end < size ? end : size);
	if (start > size) /* so far there is nothing before it either */
		start = size;
	if ((mode & FALLOC_FL_KEEP_SIZE) && !file_is_passthrough(f) && end > size)
		end = size;
	return holes_note_grown(fs, f, mode & FALLOC_FL_ZERO_RANGE ? start : size, end);
}

/* It failed, on a full disk, but ext4 has made the file as long as there was room for. The kernel
 * thinks that nothing happened. */
static void note_partial_allocation(struct fs *fs, struct file *f, uint64_t size, uint64_t end)
{
	(void)holes_note(fs, f, size, end); /* who asked is told of the disk */
	invalidate_attributes(fs, f->inode);
}

/* The kernel itself refuses modes that move bytes (fs/fuse/file.c, fuse_file_fallocate()). */
static int allocate(fuse_req_t req, struct file *f, int mode, uint64_t start, uint64_t end)
{
	struct fs *fs = fs_of(req);
	struct creds creds = {0};
	struct stat st;
	uint64_t size, gap = start;
	int r = 0;

	if (fstat(f->fd_write, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && start < size)
		r = holes_before_gap(fs, f, &gap, end);
	if (r == 0 && !(mode & FALLOC_FL_PUNCH_HOLE))
		r = holes_before_allocation(fs, f, start, end);
	if (r < 0)
		return r;
	creds_take_for_data(req, &creds);
	if (fallocate(f->fd_write, mode, (off_t)start, (off_t)(end - start)) < 0)
		r = -errno;
	creds_give_back(&creds);
	if (fstat(f->fd_write, &st) < 0)
		return r < 0 ? r : -errno;
	if (r == 0)
		r = note_allocation(fs, f, mode, gap, end, size);
	else if ((uint64_t)st.st_size > size)
		note_partial_allocation(fs, f, size, (uint64_t)st.st_size);
	pthread_mutex_lock(&fs->files_lock);
	f->end = (uint64_t)st.st_size;
	pthread_mutex_unlock(&fs->files_lock);
	return r;
}

void write_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct file *f = handle_of(fi)->file;
	int r;

	file_begin_change(fs, f);
	r = allocate(req, f, mode, (uint64_t)offset, (uint64_t)(offset + length));
	file_end_change(fs, f);
	keep(fs, f);
	reply_error(req, r);
	wake_and_let_go(fs, f);
}

/* Whether a copy from h could stop at the live edge without anybody being told, or go on in a file
 * that started over. */
static bool may_mislead(struct fs *fs, const struct handle *h)
{
	SCOPED_LOCK(&fs->files_lock);
	return h->kind == HANDLE_FOLLOWER &&
	       (h->file->state != FILE_COMPLETE || h->cut != RULE_NONE);
}

void write_copy(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = fs_of(req);
	struct handle *in = handle_of(fi_in), *out = handle_of(fi_out);
	struct file *f = out->file; /* a writer's: the status file is read-only */
	struct creds creds;
	off_t from = off_in, to = off_out;
	ssize_t n;

	if (ino_in == fs_ino(fs, &fs->status_file) || may_mislead(fs, in)) {
		reply_error(req, -EINVAL); /* callers fall back to read(2), which waits */
		return;
	}
	invalidate_begin(fs, f);
	pthread_rwlock_rdlock(&f->io);
	n = writing(fs, f, (uint64_t)off_out);
	if (n == 0) {
		creds_take_for_data(req, &creds);
		n = copy_file_range(in->file->fd_read, &from, f->fd_write, &to,
			len < COPY_MAX ? len : COPY_MAX, 0);
		n = n < 0 ? -errno : n;
		creds_give_back(&creds);
	}
	if (n > 0)
		written(fs, f, (uint64_t)off_out, (uint64_t)n);
	pthread_rwlock_unlock(&f->io);
	if (n < 0) {
		invalidate_cancel(fs, f);
		reply_error(req, (int)n);
		return;
	}
	invalidate_then_reply(req, f, (uint64_t)off_out, (size_t)n);
}
