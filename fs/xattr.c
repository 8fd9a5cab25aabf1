/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes: the store's. Those that begin with user.rww. are the mount's own (state.c)
 * and never listed, so that copies do not carry them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/cleanup.h"
#include "fs/creds.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reply.h"
#include "fs/state.h"
#include "fs/status.h"

/* The store's attributes are reached by path: no access is needed for that. */
static int path_of(struct fs *fs, fuse_ino_t ino, int *ret_fd, char path[32])
{
	int r = file_reach(fs, fs_inode(fs, ino), ret_fd);

	if (r == 0)
		snprintf(path, 32, "/proc/self/fd/%d", *ret_fd);
	return r;
}

static bool is_of_status(fuse_req_t req, fuse_ino_t ino)
{
	return status_owns(fs_of(req), fs_inode(fs_of(req), ino));
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

/*
 * Of an open file, or by path. The kernel asks for ACLs to check access, and a store that knows
 * none has none set: any other error refuses the access (fs/fuse/acl.c, __fuse_get_acl()).
 */
static ssize_t read_value(
	const struct file *f, const char *path, const char *name, char *value, size_t size)
{
	ssize_t n =
		f ? fgetxattr(file_fd(f), name, value, size) : getxattr(path, name, value, size);

	if (n < 0 && errno == EOPNOTSUPP && !strncmp(name, "system.posix_acl_", 17))
		errno = ENODATA;
	return n;
}

void xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	autofree char *value = NULL;
	struct file *f;
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_of_status(req, ino)) {
		reply_error(req, -ENODATA);
		return;
	}
	if (state_is_ours(name)) {
		state_get(req, fs_inode(fs, ino), name, size);
		return;
	}
	f = file_if_open(fs, fs_inode(fs, ino));
	r = f ? 0 : path_of(fs, ino, &fd, path);
	value = size ? malloc(size) : NULL;
	if (r == 0 && size && !value)
		r = -ENOMEM;
	if (r < 0)
		reply_error(req, r);
	else
		reply_value(req, value, read_value(f, path, name, value, size), size);
	if (f)
		file_put(fs, f);
}

/* Whether the caller is to see this name; trusted.* is for CAP_SYS_ADMIN, xattr(7). */
static bool is_shown(fuse_req_t req, const char *name)
{
	return !state_is_ours(name) &&
	       (fuse_req_ctx(req)->uid == 0 || strncmp(name, "trusted.", 8) != 0);
}

/* Takes other names out of a list of n bytes; returns what is left. */
static size_t only_shown(fuse_req_t req, char *names, size_t n)
{
	size_t kept = 0;

	for (size_t at = 0; at < n;) {
		size_t len = strlen(names + at) + 1;

		if (is_shown(req, names + at)) {
			memmove(names + kept, names + at, len);
			kept += len;
		}
		at += len;
	}
	return kept;
}

void xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	autofree char *names = malloc(XATTR_LIST_MAX);
	autoclose int fd = -1;
	char path[32];
	ssize_t n;
	int r;

	if (is_of_status(req, ino)) {
		reply_value(req, "", 0, size);
		return;
	}
	r = path_of(fs_of(req), ino, &fd, path);
	if (r == 0 && !names)
		r = -ENOMEM;
	if (r < 0) {
		reply_error(req, r);
		return;
	}
	n = listxattr(path, names, XATTR_LIST_MAX);
	if (n > 0)
		n = (ssize_t)only_shown(req, names, (size_t)n);
	if (n > 0 && size && (size_t)n > size)
		reply_error(req, -ERANGE);
	else
		reply_value(req, names, n, size);
}

void xattr_set(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	bool acl = !strcmp(name, "system.posix_acl_access");
	struct creds creds;
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_of_status(req, ino)) {
		reply_error(req, -EPERM);
		return;
	}
	if (state_is_ours(name)) {
		state_set(req, fs_inode(fs_of(req), ino), name, value, size);
		return;
	}
	r = path_of(fs_of(req), ino, &fd, path);
	if (r == 0) {
		if (acl) /* it may clear the set-group-id bit */
			creds_take_for_data(req, &creds);
		else
			creds_take_if_tight(req, &creds);
		if (setxattr(path, name, value, size, flags) < 0)
			r = -errno;
		creds_give_back(&creds);
	}
	reply_error(req, r);
}

void xattr_remove(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	autoclose int fd = -1;
	char path[32];
	int r;

	if (is_of_status(req, ino) || state_is_ours(name)) {
		reply_error(req, -EPERM);
		return;
	}
	r = path_of(fs_of(req), ino, &fd, path);
	if (r == 0 && removexattr(path, name) < 0)
		r = -errno;
	reply_error(req, r);
}
