/* SPDX-License-Identifier: MIT */
/*
 * Listing. A directory handle has a stream of its own on the store; offsets are the store's
 * cookies, so listings survive changes as they do there. The kernel sends the reads of one handle
 * one after the other (f_pos_lock).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/attr.h"
#include "fs/end.h"
#include "fs/fs.h"
#include "fs/read.h"
#include "fs/reply.h"
#include "fs/status.h"

struct listing {
	DIR *dir;
	struct dirent *next; /* read, but did not fit into the last answer */
	off_t offset;        /* where the stream stands, next included */
};

static struct listing *listing_of(const struct fuse_file_info *fi)
{
	return (struct listing *)(uintptr_t)fi->fh;
}

static void listing_free(struct listing *l)
{
	if (l->dir)
		closedir(l->dir); /* only read */
	free(l);
}

/* .rww has one entry; programs look the rest up. */
static void list_status_dir(fuse_req_t req, size_t size, off_t offset, bool plus)
{
	const struct inode *file = &fs_of(req)->status_file;
	struct fuse_entry_param e = {
		.attr = {.st_ino = inode_shown_number(&fs_of(req)->inodes, file->dev, file->ino),
			.st_mode = S_IFREG}};
	char buf[256];
	size_t n = 0;

	if (offset == 0 && plus)
		n = fuse_add_direntry_plus(req, buf, sizeof(buf), STATUS_FILE, &e, 1);
	else if (offset == 0)
		n = fuse_add_direntry(req, buf, sizeof(buf), STATUS_FILE, &e.attr, 1);
	reply_data(req, buf, n < size ? n : 0);
}

void directory_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct listing *l = calloc(1, sizeof(*l));
	autoclose int fd = -1;
	int r = l ? 0 : -ENOMEM;

	if (r == 0 && ino != fs_ino(fs, &fs->status_dir))
		r = inode_open(&fs->inodes, fs_inode(fs, ino), O_RDONLY | O_DIRECTORY, &fd);
	if (r == 0 && fd >= 0) {
		l->dir = fdopendir(fd);
		if (l->dir)
			(void)steal_fd(&fd); /* the stream's now */
		else
			r = -errno;
	}
	if (r < 0) {
		free(l);
		reply_error(req, r);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)l;
	if (reply_open(req, fi) < 0) {
		listing_free(l);
	}
}

void directory_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	listing_free(listing_of(fi));
	reply_error(req, 0);
}

void directory_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	DIR *dir = listing_of(fi)->dir;
	int fd = dir ? dirfd(dir) : fs_of(req)->store_fd;

	reply_error(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0);
}

/* Adds d to the answer; its size, more than room when it does not fit. */
static size_t add_entry(fuse_req_t req, struct inode *parent, const struct dirent *d, bool plus,
	int dir_fd, char *to, size_t room)
{
	struct fs *fs = fs_of(req);
	const bool dots = !strcmp(d->d_name, ".") || !strcmp(d->d_name, "..");
	struct fuse_entry_param e = {
		.attr = {.st_ino = inode_shown_number(&fs->inodes, parent->dev, d->d_ino),
			.st_mode = DTTOIF(d->d_type)}};
	struct inode *i = NULL;
	struct statx stx;
	size_t n;

	if (!plus)
		return fuse_add_direntry(req, to, room, d->d_name, &e.attr, d->d_off);
	n = fuse_add_direntry_plus(req, NULL, 0, d->d_name, NULL, 0);
	if (n > room)
		return n;
	/* A name that is gone by now, or memory that is short: listed, and looked up on use. */
	if (!dots && inode_statx(dir_fd, d->d_name, AT_SYMLINK_NOFOLLOW, &stx) == 0 &&
		inode_remember(&fs->inodes, parent, d->d_name, &stx, &i) == 0) {
		end_recall(fs, i, dir_fd, d->d_name);
		attr_overlay(fs, i, &stx);
		reply_fill_entry(fs, i, &stx, &e);
	}
	return fuse_add_direntry_plus(req, to, room, d->d_name, &e, d->d_off);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
	struct fuse_file_info *fi, bool plus)
{
	struct inode *parent = fs_inode(fs_of(req), ino);
	struct listing *l = listing_of(fi);
	char *buf = read_buffer(fs_of(req));
	size_t used = 0;

	if (!buf) {
		reply_error(req, -ENOMEM);
		return;
	}
	if (!l->dir) {
		list_status_dir(req, size, offset, plus);
		return;
	}
	if (size > fs_of(req)->request_max)
		size = fs_of(req)->request_max;
	if (offset != l->offset) {
		seekdir(l->dir, offset);
		l->next = NULL;
		l->offset = offset;
	}
	for (;;) {
		size_t n;

		if (!l->next) {
			errno = 0;
			l->next = readdir(l->dir);
			if (!l->next && errno && !used) {
				reply_error(req, -errno);
				return;
			}
			if (!l->next)
				break;
		}
		n = add_entry(req, parent, l->next, plus, dirfd(l->dir), buf + used, size - used);
		if (n > size - used)
			break;
		used += n;
		l->offset = l->next->d_off;
		l->next = NULL;
	}
	reply_data(req, buf, used);
}

void directory_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, false);
}

void directory_read_plus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, ino, size, offset, fi, true);
}
