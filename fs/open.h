/* SPDX-License-Identifier: MIT */
/* Opening and closing files: which kind of handle (DESIGN, "Handles"), and by which way. */
#ifndef FS_OPEN_H
#define FS_OPEN_H

struct file;
struct fs;
struct waiter;

/* Answers an open that waited (hold=open), or keeps it waiting in a waiter of its own. */
void open_resume(struct fs *fs, struct waiter *w);
/*
 * What the kernel asks of the store's inode when it is opened there with these flags of open(2):
 * the mount's has no such attributes, and descriptors are shared by all who write (chattr(1) +a
 * and +i). -EPERM; -EINVAL: no direct I/O.
 */
int open_check_flags(const struct file *f, int flags);

#endif
