/* SPDX-License-Identifier: MIT */
/* Attributes as the mount shows them. */
#ifndef FS_ATTR_H
#define FS_ATTR_H

struct fs;
struct inode;
struct statx;

/* What differs from the store: a declared size is the size from its declaration on. */
void attr_overlay(struct fs *fs, struct inode *i, struct statx *stx);

#endif
