/* SPDX-License-Identifier: MIT */
/*
 * Complete files whose marker the store did not let go of, because it is full, a quota used up, or
 * read-only after an error. Each is remembered, with a reference to its inode, so that its marker
 * is not believed meanwhile, and tried again until it is gone. Any thread; files lock.
 */
#ifndef FS_LEFTOVER_H
#define FS_LEFTOVER_H

struct fs;
struct inode;

/* r: why i has its marker still, which is said if that is new. */
void leftover_add(struct fs *fs, struct inode *i, int r);
/* The marker of i is gone, or i is. The caller has a reference to it. */
void leftover_drop(struct fs *fs, struct inode *i);
/* The store may be well again: one is tried, if there is one. No lock held. */
void leftover_retry(struct fs *fs);
/* All of them, for the last time: nobody uses the mount any more. */
void leftover_retry_all(struct fs *fs);

#endif
