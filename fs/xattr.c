/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes: the store's, and above them user.rww.*, through which ordinary tools read a
 * file's state. These are never listed, so that copies do not carry them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/reply.h"

#define PREFIX "user.rww."

static bool is_ours(const char *name)
{
	return !strncmp(name, PREFIX, strlen(PREFIX));
}

/* The first byte of an open file that is not there yet; of another one its size. */
static int edge_of(struct fs *fs, struct file *f, uint64_t size, uint64_t *ret)
{
	uint64_t edge = 0;

	while (f && file_is_growing(fs, f) && f->fd_read >= 0 && edge < size) {
		uint64_t rest = size - edge;
		ssize_t n = holes_available(fs, f, edge, rest > INT32_MAX ? INT32_MAX : rest);

		if (n < 0)
			return (int)n;
		if (n == 0) {
			*ret = edge;
			return 0;
		}
		edge += (uint64_t)n;
	}
	*ret = size;
	return 0;
}

static int value_of(struct fs *fs, struct inode *i, const char *what, char *buf, size_t size)
{
	static const char *const states[] = {"complete", "growing", "aborted"};
	enum file_state state = FILE_COMPLETE;
	uint64_t declared = RULE_NONE, edge = 0;
	uint32_t writers = 0, held = 0;
	struct file *f = NULL;
	struct statx stx;
	int r = inode_stat(&fs->inodes, i, &stx);

	if (r < 0)
		return r;
	if (!S_ISREG(stx.stx_mode))
		return -ENODATA;
	pthread_mutex_lock(&fs->files_lock);
	if (i->file) {
		f = file_ref_locked(i->file);
		state = f->state;
		declared = f->declared;
		writers = f->writers;
		held = f->n_held;
	}
	pthread_mutex_unlock(&fs->files_lock);

	r = -ENODATA;
	if (!strcmp(what, "state"))
		r = snprintf(buf, size, "%s", states[state]);
	else if (!strcmp(what, "writers"))
		r = snprintf(buf, size, "%" PRIu32, writers);
	else if (!strcmp(what, "readers"))
		r = snprintf(buf, size, "%" PRIu32, held);
	else if (!strcmp(what, "size") && declared != RULE_NONE)
		r = snprintf(buf, size, "%" PRIu64, declared);
	else if (!strcmp(what, "edge") && (r = edge_of(fs, f, stx.stx_size, &edge)) == 0)
		r = snprintf(buf, size, "%" PRIu64, edge);
	if (f)
		file_put(fs, f);
	return r;
}

static void get_ours(fuse_req_t req, struct inode *i, const char *name, size_t size)
{
	char buf[64];
	int n = value_of(fs_of(req), i, name + strlen(PREFIX), buf, sizeof(buf));

	if (n < 0)
		reply_error(req, n);
	else if (size == 0)
		reply_xattr_size(req, (size_t)n);
	else if ((size_t)n > size)
		reply_error(req, -ERANGE);
	else
		reply_data(req, buf, (size_t)n);
}

/* The store's attributes are reached through an O_PATH descriptor: no access is needed for that. */
static int path_of(struct fs *fs, fuse_ino_t ino, int *ret_fd, char path[32])
{
	int r = inode_open(&fs->inodes, fs_inode(fs, ino), O_PATH | O_NOFOLLOW, ret_fd);

	if (r == 0)
		snprintf(path, 32, "/proc/self/fd/%d", *ret_fd);
	return r;
}

static void reply_value(fuse_req_t req, const char *value, ssize_t n, size_t size)
{
	if (n < 0)
		reply_error(req, -errno);
	else if (size == 0)
		reply_xattr_size(req, (size_t)n);
	else
		reply_data(req, value, (size_t)n);
}

void xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	autofree char *value = NULL;
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_ours(name)) {
		get_ours(req, fs_inode(fs, ino), name, size);
		return;
	}
	r = path_of(fs, ino, &fd, path);
	value = size ? malloc(size) : NULL;
	if (r == 0 && size && !value)
		r = -ENOMEM;
	if (r < 0)
		reply_error(req, r);
	else
		reply_value(req, value, getxattr(path, name, value, size), size);
}

void xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	autofree char *value = size ? malloc(size) : NULL;
	autoclose int fd = -1;
	char path[32];
	int r = path_of(fs_of(req), ino, &fd, path);

	if (r == 0 && size && !value)
		r = -ENOMEM;
	if (r < 0)
		reply_error(req, r);
	else
		reply_value(req, value, listxattr(path, value, size), size);
}

void xattr_set(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_ours(name)) {
		reply_error(req, -EPERM);
		return;
	}
	r = path_of(fs_of(req), ino, &fd, path);
	if (r == 0 && setxattr(path, name, value, size, flags) < 0)
		r = -errno;
	reply_error(req, r);
}

void xattr_remove(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_ours(name)) {
		reply_error(req, -EPERM);
		return;
	}
	r = path_of(fs_of(req), ino, &fd, path);
	if (r == 0 && removexattr(path, name) < 0)
		r = -errno;
	reply_error(req, r);
}
