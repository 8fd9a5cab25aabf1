/* SPDX-License-Identifier: MIT */
#include "fs/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/creds.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/invalidate.h"
#include "fs/open.h"
#include "fs/reply.h"
#include "fs/status.h"

void attr_overlay(struct fs *fs, struct inode *i, struct statx *stx)
{
	uint64_t declared = RULE_NONE;

	SCOPED_LOCK(&fs->files_lock);
	invalidate_await_size_locked(fs, i);
	if (i->file && stx->stx_size > i->file->hidden_from)
		stx->stx_size = i->file->hidden_from;
	if (i->file) {
		end_check_declared_locked(i->file, stx->stx_size);
		declared = i->file->declared;
	}
	if (i->aborted && declared == RULE_NONE)
		declared = i->aborted->declared;
	if (declared != RULE_NONE && declared > stx->stx_size)
		stx->stx_size = declared;
}

/* The descriptor of an open file, -1 if there is no handle. */
static int fd_of(const struct fuse_file_info *fi)
{
	return fi ? file_fd(((struct handle *)(uintptr_t)fi->fh)->file) : -1;
}

static int stat_now(struct fs *fs, struct inode *i, int fd, struct statx *ret)
{
	int r = fd >= 0 ? inode_statx(fd, "", AT_EMPTY_PATH, ret) : file_stat(fs, i, ret);

	if (r == 0)
		attr_overlay(fs, i, ret);
	return r;
}

void attr_get(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = fs_inode(fs, ino);
	struct statx stx;
	int r;

	if (status_owns(fs, i)) {
		status_getattr(req, i);
		return;
	}
	r = stat_now(fs, i, fd_of(fi), &stx);
	if (r < 0)
		reply_error(req, r);
	else
		reply_attr(req, i, &stx);
}

static int truncate_as_caller(fuse_req_t req, struct file *f, off_t size)
{
	struct creds creds;
	int r;

	creds_take_for_data(req, &creds);
	r = file_truncate(fs_of(req), f, (uint64_t)size);
	creds_give_back(&creds);
	return r;
}

/* truncate(2): no descriptor shows that it was opened for that. Setup lock held. */
static int truncate_by_name(fuse_req_t req, struct file *f, off_t size)
{
	struct fs *fs = fs_of(req);
	int r = open_check_flags(f, O_WRONLY | O_TRUNC);

	if (r < 0)
		return r;
	end_recall_open(fs, f);
	r = truncate_as_caller(req, f, size);
	if (r == 0 && size == 0)
		end_emptied(fs, f);
	return r;
}

/* Truncation always goes through struct file, so that no reader misses it. */
static int set_size(fuse_req_t req, struct inode *i, off_t size, bool by_name)
{
	struct fs *fs = fs_of(req);
	struct file *f;
	int r = file_get(fs, i, &f);

	if (r < 0)
		return r;
	pthread_mutex_lock(&f->setup);
	r = file_open_descriptors(fs, f, false, true, -1);
	if (r == 0 && by_name)
		r = truncate_by_name(req, f, size);
	pthread_mutex_unlock(&f->setup);
	if (r == 0 && !by_name)
		r = truncate_as_caller(req, f, size);
	hold_wake(fs, f);
	file_put(fs, f);
	return r;
}

#define SOMETHING                                                                                  \
	(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE |         \
		FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)

static int set_times(int fd, const struct stat *st, int to_set)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		ts[0] = st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		ts[1] = st->st_mtim;
	return utimensat(fd, "", ts, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/* The setup lock keeps writers from coming meanwhile. */
static int set_times_of_open(
	struct fs *fs, struct file *f, int fd, const struct stat *st, int to_set)
{
	SCOPED_LOCK(&f->setup);
	struct stat before, after;

	if (fstat(file_fd(f), &before) < 0 || set_times(fd, st, to_set) < 0)
		return -errno;
	if (fstat(file_fd(f), &after) < 0)
		return 0; /* as if it had been written to */
	pthread_mutex_lock(&fs->files_lock);
	if (!f->writers)
		file_retimed_locked(f, &before, &after);
	pthread_mutex_unlock(&fs->files_lock);
	return 0;
}

static int set_times_of(struct fs *fs, struct inode *i, int fd, const struct stat *st, int to_set)
{
	struct file *f = file_if_open(fs, i);
	int r;

	if (!f)
		return set_times(fd, st, to_set) < 0 ? -errno : 0;
	r = set_times_of_open(fs, f, fd, st, to_set);
	file_put(fs, f);
	return r;
}

/* fd: any descriptor of the inode, O_PATH too. A chown(2) that changes no id is told as nothing at
 * all, and clears set-id bits. */
static int set_others(fuse_req_t req, struct inode *i, int fd, const struct stat *st, int to_set)
{
	char path[32];
	struct creds creds;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	creds_own(fs_of(req)); /* the kernel has decided about set-id bits */
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(to_set & SOMETHING)) {
		uid_t uid = to_set & FUSE_SET_ATTR_UID ? st->st_uid : (uid_t)-1;
		gid_t gid = to_set & FUSE_SET_ATTR_GID ? st->st_gid : (gid_t)-1;

		creds_take_if_tight(req, &creds); /* another quota */
		r = fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
											: 0;
		creds_give_back(&creds);
		if (r < 0)
			return r;
	}
	if ((to_set & FUSE_SET_ATTR_MODE) && chmod(path, st->st_mode & 07777) < 0)
		return -errno;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))
		return set_times_of(fs_of(req), i, fd, st, to_set);
	return 0;
}

/* The kernel drops pages behind the size that it is told; that may be a declared one. */
static void reply_cut(fuse_req_t req, struct inode *i, uint64_t size, const struct statx *stx)
{
	struct fs *fs = fs_of(req);
	struct file *f = stx->stx_size > size ? file_if_open(fs, i) : NULL;

	if (f && !file_is_passthrough(f))
		invalidate_cut_then_reply(req, f, size, stx);
	else
		reply_attr(req, i, stx);
	if (f)
		file_put(fs, f);
}

void attr_set(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = fs_inode(fs, ino);
	const bool others = (to_set & SOMETHING) != FUSE_SET_ATTR_SIZE;
	autoclose int own = -1;
	struct statx stx;
	int fd, r = 0;

	if (status_owns(fs, i)) {
		reply_error(req, -EPERM);
		return;
	}
	fd = fd_of(fi);
	if (fd < 0 && others) {
		r = file_reach(fs, i, &own);
		fd = own;
	}
	if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE))
		r = set_size(req, i, st->st_size, !fi);
	if (r == 0 && others)
		r = set_others(req, i, fd, st, to_set);
	if (r == 0)
		r = stat_now(fs, i, fd, &stx);
	if (r < 0)
		reply_error(req, r);
	else if (to_set & FUSE_SET_ATTR_SIZE)
		reply_cut(req, i, (uint64_t)st->st_size, &stx);
	else
		reply_attr(req, i, &stx);
}

/* Of the filesystem that it is on: others may lie in the store. */
void attr_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	autoclose int fd = -1;
	int r = file_reach(fs, fs_inode(fs, ino), &fd);
	struct statvfs sv;

	if (fstatvfs(r < 0 ? fs->store_fd : fd, &sv) < 0)
		reply_error(req, -errno);
	else
		reply_statfs(req, &sv);
}
