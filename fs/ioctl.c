/* SPDX-License-Identifier: MIT */
/*
 * File attributes of lsattr(1) and chattr(1), ioctl_iflags(2), and project ids: the store's. The
 * kernel has checked the caller's rights (fs/fuse/ioctl.c, fuse_fileattr_set); stores have rules of
 * their own about capabilities: XFS clears set-id bits, ext4 keeps +j for CAP_SYS_RESOURCE.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"
#include "fs/creds.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/invalidate.h"
#include "fs/reply.h"
#include "fs/status.h"

/* Large enough for every argument below. */
union argument {
	int flags;
	long version;
	struct fsxattr xattr;
};

/* How many bytes the argument has, and whether they go in or come out; 0: not one of ours. */
static size_t size_of(unsigned cmd, bool *ret_in)
{
	*ret_in = cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR;
	switch (cmd) {
	case FS_IOC_GETFLAGS:
	case FS_IOC_SETFLAGS:
		return sizeof(int);
	case FS_IOC_FSGETXATTR:
	case FS_IOC_FSSETXATTR:
		return sizeof(struct fsxattr);
	case FS_IOC_GETVERSION:
		return sizeof(int);
	default:
		return 0;
	}
}

void ioctl_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	struct fs *fs = fs_of(req);
	union argument a = {0};
	struct file *f;
	struct creds creds = {0};
	autoclose int own = -1;
	bool goes_in;
	size_t size = size_of(cmd, &goes_in);
	int r;

	if (!size || (flags & FUSE_IOCTL_COMPAT) || (goes_in ? in_size : out_size) < size ||
		status_owns(fs, fs_inode(fs, ino))) {
		reply_error(req, -ENOTTY);
		return;
	}
	f = file_if_open(fs, fs_inode(fs, ino)); /* it may have no name any more */
	r = f ? 0 : inode_open(&fs->inodes, fs_inode(fs, ino), O_RDONLY, &own);
	if (r == 0 && goes_in) {
		memcpy(&a, in, size);
		creds_take_for_data(req, &creds);
	}
	if (r == 0 && ioctl(f ? file_fd(f) : own, cmd, &a) < 0)
		r = -errno;
	creds_give_back(&creds);
	if (f)
		file_put(fs, f);
	if (r == 0 && goes_in)
		invalidate_attributes(fs, fs_inode(fs, ino)); /* the ctime */
	if (r < 0)
		reply_error(req, r);
	else
		reply_ioctl(req, &a, goes_in ? 0 : size);
}
