/* SPDX-License-Identifier: MIT */
/*
 * MOUNTPOINT/.rww/status: the mount's state as one JSON document, made anew at every open. The
 * directory .rww and the file are not in the store, nor in listings of the root; their inodes live
 * in struct fs. Sizes in bytes, times in seconds.
 */
#ifndef FS_STATUS_H
#define FS_STATUS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct fs;
struct inode;

#define STATUS_DIR  ".rww"
#define STATUS_FILE "status"

void status_init(struct fs *fs);

bool status_owns(struct fs *fs, struct inode *i);

/*
 * Whether name (NULL: none) in parent is ours or would be. Nothing is made, removed or moved there:
 * -EPERM.
 */
bool status_owns_name(struct fs *fs, const struct inode *parent, const char *name);

/* Answers a lookup in the root or in .rww if it is for one of ours. */
bool status_lookup(fuse_req_t req, struct inode *parent, const char *name);
void status_getattr(fuse_req_t req, struct inode *i);
void status_open(fuse_req_t req, struct fuse_file_info *fi);
/*
 * Fills buf with up to size bytes of the open document, returns how many. A copy: once the answer
 * has left, another thread may already be releasing the document.
 */
size_t status_read(const struct fuse_file_info *fi, char *buf, size_t size, off_t offset);
void status_release(fuse_req_t req, struct fuse_file_info *fi);

#endif
