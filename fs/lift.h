/* SPDX-License-Identifier: MIT */
/*
 * Keeps sendfile(2) and splice(2) from taking a growing file that is still empty for a complete
 * one: lift.c tells how. Any thread, no lock held. The functions answer req in place of those of
 * the same name in reply.h, at once or, for a file that has to be lifted first, from the background
 * thread.
 */
#ifndef FS_LIFT_H
#define FS_LIFT_H

#include <fuse_lowlevel.h>

struct fs;
struct handle;
struct inode;
struct statx;

void lift_reply_attr(fuse_req_t req, struct inode *i, const struct statx *stx);
/* Replies with the size as it is, for lseek(SEEK_END), and lifts afterwards. */
void lift_reply_true_attr(fuse_req_t req, struct inode *i, const struct statx *stx);
void lift_reply_entry(fuse_req_t req, struct inode *i, const struct statx *stx);
/* Ends h if the opener was interrupted. */
void lift_reply_open(fuse_req_t req, struct handle *h, const struct fuse_file_info *fi);

/* Whether the kernel must not be told i's size in passing (readdirplus). */
bool lift_is_needed(struct fs *fs, struct inode *i, const struct statx *stx);

/* For the background thread: does what was put off. */
void lift_run(struct fs *fs);

#endif
