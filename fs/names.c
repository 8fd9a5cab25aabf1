/* SPDX-License-Identifier: MIT */
/* Names: looking up, making, removing, moving. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/attr.h"
#include "fs/creds.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reply.h"
#include "fs/status.h"

/* Replies with the entry that name in parent is now. */
static void reply_name(fuse_req_t req, struct inode *parent, int dir_fd, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *i = NULL;
	struct statx stx;
	int r = inode_statx(dir_fd, name, AT_SYMLINK_NOFOLLOW, &stx);

	if (r == 0)
		r = inode_remember(&fs->inodes, parent, name, &stx, &i);
	if (r == 0)
		end_recall(fs, i, dir_fd, name);
	inode_release_dir(&fs->inodes, parent);
	if (r < 0) {
		reply_error(req, r);
		return;
	}
	attr_overlay(fs, i, &stx);
	file_note_told(fs, i, &stx);
	reply_entry(req, i, &stx);
}

void names_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *parent = fs_inode(fs, parent_ino);
	int dir_fd, r;

	if (status_lookup(req, parent, name))
		return;
	r = inode_acquire_dir(&fs->inodes, parent, &dir_fd);
	if (r < 0)
		reply_error(req, r);
	else
		reply_name(req, parent, dir_fd, name);
}

void names_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fs *fs = fs_of(req);

	inode_forget(&fs->inodes, fs_inode(fs, ino), n);
	reply_none(req);
}

void names_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t k = 0; k < count; k++)
		inode_forget(&fs->inodes, fs_inode(fs, forgets[k].ino), forgets[k].nlookup);
	reply_none(req);
}

void names_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char target[PATH_MAX + 1];
	autoclose int fd = -1;
	int r = inode_open(&fs->inodes, fs_inode(fs, ino), O_PATH | O_NOFOLLOW, &fd);
	ssize_t n;

	if (r < 0) {
		reply_error(req, r);
		return;
	}
	n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0) {
		reply_error(req, -errno);
		return;
	}
	target[n] = '\0';
	reply_link(req, target);
}

/* inode_acquire_dir() of parent, in which name is to change. */
static int acquire_for_change(struct fs *fs, struct inode *parent, const char *name, int *ret_fd)
{
	if (status_owns_name(fs, parent, name))
		return -EPERM;
	return inode_acquire_dir(&fs->inodes, parent, ret_fd);
}

/* --- making --------------------------------------------------------------------------------- */

enum new_kind { NEW_NODE, NEW_DIR, NEW_SYMLINK };

static void make(fuse_req_t req, fuse_ino_t parent_ino, const char *name, enum new_kind kind,
	mode_t mode, dev_t rdev, const char *target)
{
	struct fs *fs = fs_of(req);
	struct inode *parent = fs_inode(fs, parent_ino);
	struct creds creds;
	int dir_fd, r = acquire_for_change(fs, parent, name, &dir_fd);

	if (r < 0) {
		reply_error(req, r);
		return;
	}
	creds_take(req, mode, &creds);
	switch (kind) {
	case NEW_NODE:
		r = mknodat(dir_fd, name, mode, rdev);
		break;
	case NEW_DIR:
		r = mkdirat(dir_fd, name, mode);
		break;
	case NEW_SYMLINK:
		r = symlinkat(target, dir_fd, name);
		break;
	}
	r = r < 0 ? -errno : 0;
	creds_give_back(&creds);
	if (r < 0) {
		inode_release_dir(&fs->inodes, parent);
		reply_error(req, r);
		return;
	}
	reply_name(req, parent, dir_fd, name);
}

void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, NEW_NODE, mode, rdev, NULL);
}

void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, NEW_DIR, mode, 0, NULL);
}

void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, NEW_SYMLINK, 0, 0, target);
}

void names_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *parent = fs_inode(fs, parent_ino);
	char path[32];
	autoclose int fd = -1;
	struct inode *i = fs_inode(fs, ino);
	struct creds creds;
	int dir_fd, r = status_owns(fs, i) ? -EPERM : 0;

	if (r == 0)
		r = file_reach(fs, i, &fd);
	if (r == 0)
		r = acquire_for_change(fs, parent, name, &dir_fd);
	if (r < 0) {
		reply_error(req, r);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	creds_take_if_tight(req, &creds);
	r = linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	creds_give_back(&creds);
	if (r < 0) {
		inode_release_dir(&fs->inodes, parent);
		reply_error(req, r);
		return;
	}
	reply_name(req, parent, dir_fd, name);
}

/* --- removing and moving -------------------------------------------------------------------- */

static void name_gone(
	struct fs *fs, struct inode *parent, const char *name, struct inode_grip *grip)
{
	if (inode_name_gone(&fs->inodes, parent, name, grip))
		end_name_gone(fs, grip->inode);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent_ino, const char *name, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *parent = fs_inode(fs, parent_ino);
	struct inode_grip grip;
	int dir_fd, r = acquire_for_change(fs, parent, name, &dir_fd);

	if (r < 0) {
		reply_error(req, r);
		return;
	}
	inode_name_grip(&fs->inodes, dir_fd, name, &grip);
	inode_rename_begin(&fs->inodes); /* whoever has it open finds it again once it is pinned */
	r = unlinkat(dir_fd, name, flags) < 0 ? -errno : 0;
	inode_release_dir(&fs->inodes, parent);
	if (r == 0)
		name_gone(fs, parent, name, &grip);
	inode_rename_end(&fs->inodes);
	inode_name_let_go(&fs->inodes, &grip);
	reply_error(req, r);
}

void names_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, AT_REMOVEDIR);
}

struct name_place {
	struct inode *parent;
	const char *name;
	int dir_fd;
	struct inode_grip grip;
};

/* renameat2(2); the new name may want a block, and what it leaves behind (RENAME_WHITEOUT) is a new
 * file, the caller's. */
static int rename_as_caller(
	fuse_req_t req, const struct name_place *from, const struct name_place *to, unsigned flags)
{
	struct creds creds;
	int r;

	if (flags & RENAME_WHITEOUT)
		creds_take(req, 0, &creds);
	else
		creds_take_if_tight(req, &creds);
	r = renameat2(from->dir_fd, from->name, to->dir_fd, to->name, flags) < 0 ? -errno : 0;
	creds_give_back(&creds);
	return r;
}

static int move(fuse_req_t req, struct name_place *from, struct name_place *to, unsigned flags)
{
	struct inode_table *t = &fs_of(req)->inodes;

	inode_name_grip(t, from->dir_fd, from->name, &from->grip);
	inode_name_grip(t, to->dir_fd, to->name, &to->grip);
	inode_rename_begin(t);
	int r = rename_as_caller(req, from, to, flags);
	bool same = from->grip.inode && from->grip.inode == to->grip.inode; /* nothing happened */

	if (r == 0 && !same) {
		if (flags & RENAME_EXCHANGE) {
			if (to->grip.inode)
				inode_renamed(t, to->grip.inode, from->parent, from->name);
		} else {
			name_gone(fs_of(req), to->parent, to->name, &to->grip);
		}
		if (from->grip.inode)
			inode_renamed(t, from->grip.inode, to->parent, to->name);
	}
	inode_rename_end(t);
	inode_name_let_go(t, &from->grip);
	inode_name_let_go(t, &to->grip);
	return r;
}

void names_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct fs *fs = fs_of(req);
	struct name_place from = {.parent = fs_inode(fs, parent_ino), .name = name};
	struct name_place to = {.parent = fs_inode(fs, new_parent), .name = new_name};
	int r = acquire_for_change(fs, from.parent, from.name, &from.dir_fd);

	if (r == 0) {
		r = acquire_for_change(fs, to.parent, to.name, &to.dir_fd);
		if (r == 0) {
			r = move(req, &from, &to, flags);
			inode_release_dir(&fs->inodes, to.parent);
		}
		inode_release_dir(&fs->inodes, from.parent);
	}
	reply_error(req, r);
}
