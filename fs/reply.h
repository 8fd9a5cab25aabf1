/* SPDX-License-Identifier: MIT */
/*
 * Answers to the kernel. The only caller of fuse_reply_*. Every function ends the request.
 * Never called with a lock held: the kernel may act on an answer before the call returns.
 * A failed send means that the requester is gone or the mount is; there is nobody to tell.
 */
#ifndef FS_REPLY_H
#define FS_REPLY_H

#include <fuse_lowlevel.h>

struct fs;
struct inode;
struct statx;

/* r: negative errno, or 0 for plain success. */
void reply_error(fuse_req_t req, int r);
void reply_none(fuse_req_t req);
void reply_data(fuse_req_t req, const char *data, size_t size);
/* size bytes of fd from offset on, without a copy where the kernel can. */
void reply_from_fd(fuse_req_t req, int fd, off_t offset, size_t size);
void reply_written(fuse_req_t req, size_t n);
void reply_offset(fuse_req_t req, off_t offset);
void reply_link(fuse_req_t req, const char *target);
void reply_xattr_size(fuse_req_t req, size_t size);
void reply_statfs(fuse_req_t req, const struct statvfs *sv);
void reply_attr(fuse_req_t req, const struct inode *i, const struct statx *stx);
void reply_ioctl(fuse_req_t req, const void *out, size_t size);
void reply_poll(fuse_req_t req, unsigned events);

/* What the kernel is told of an inode and its name. */
void reply_fill_entry(
	struct fs *fs, struct inode *i, const struct statx *stx, struct fuse_entry_param *ret);
void reply_entry(fuse_req_t req, struct inode *i, const struct statx *stx);
/* Negative errno when the opener was interrupted: it never saw the handle. */
int reply_open(fuse_req_t req, const struct fuse_file_info *fi);
int reply_create(
	fuse_req_t req, struct inode *i, const struct statx *stx, const struct fuse_file_info *fi);

#endif
