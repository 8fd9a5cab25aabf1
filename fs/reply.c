/* SPDX-License-Identifier: MIT */
#include "fs/reply.h"

#include <sys/stat.h>

#include "fs/fs.h"

#ifndef REPLY_DATA_FLAGS
#define REPLY_DATA_FLAGS FUSE_BUF_SPLICE_MOVE
#endif

void reply_error(fuse_req_t req, int r)
{
	(void)fuse_reply_err(req, -r);
}

void reply_none(fuse_req_t req)
{
	fuse_reply_none(req);
}

void reply_data(fuse_req_t req, const char *data, size_t size)
{
	(void)fuse_reply_buf(req, data, size);
}

void reply_from_fd(fuse_req_t req, int fd, off_t offset, size_t size)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = offset;
	(void)fuse_reply_data(req, &buf, REPLY_DATA_FLAGS);
}

void reply_written(fuse_req_t req, size_t n)
{
	(void)fuse_reply_write(req, n);
}

void reply_offset(fuse_req_t req, off_t offset)
{
	(void)fuse_reply_lseek(req, offset);
}

void reply_link(fuse_req_t req, const char *target)
{
	(void)fuse_reply_readlink(req, target);
}

void reply_xattr_size(fuse_req_t req, size_t size)
{
	(void)fuse_reply_xattr(req, size);
}

void reply_statfs(fuse_req_t req, const struct statvfs *sv)
{
	(void)fuse_reply_statfs(req, sv);
}

void reply_ioctl(fuse_req_t req, const void *out, size_t size)
{
	(void)fuse_reply_ioctl(req, 0, out, size);
}

void reply_poll(fuse_req_t req, unsigned events)
{
	(void)fuse_reply_poll(req, events);
}

static double seconds(uint64_t ms)
{
	return (double)ms / 1000;
}

/* With passthrough a write clears set-id bits in the store, and one through a mapping changes the
 * times, which the kernel learns by asking. */
static double attr_seconds(struct fs *fs, const struct inode *i, const struct statx *stx)
{
	bool set_id = S_ISREG(stx->stx_mode) && (stx->stx_mode & (S_ISUID | S_ISGID));

	return set_id || i->mapped ? 0 : seconds(fs->opt.attr_timeout_ms);
}

void reply_attr(fuse_req_t req, const struct inode *i, const struct statx *stx)
{
	struct stat st;

	inode_stat_from_statx(&fs_of(req)->inodes, stx, &st);
	(void)fuse_reply_attr(req, &st, attr_seconds(fs_of(req), i, stx));
}

void reply_fill_entry(
	struct fs *fs, struct inode *i, const struct statx *stx, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = (fuse_ino_t)(uintptr_t)i,
		.attr_timeout = attr_seconds(fs, i, stx),
		.entry_timeout = seconds(fs->opt.entry_timeout_ms),
	};
	inode_stat_from_statx(&fs->inodes, stx, &ret->attr);
}

void reply_entry(fuse_req_t req, struct inode *i, const struct statx *stx)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;

	reply_fill_entry(fs, i, stx, &e);
	if (fuse_reply_entry(req, &e) < 0)
		inode_forget(&fs->inodes, i, 1); /* the kernel did not take it */
}

int reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	return fuse_reply_open(req, fi);
}

int reply_create(
	fuse_req_t req, struct inode *i, const struct statx *stx, const struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	int r;

	reply_fill_entry(fs, i, stx, &e);
	r = fuse_reply_create(req, &e, fi);
	if (r < 0)
		inode_forget(&fs->inodes, i, 1); /* the kernel did not take it */
	return r;
}
