/* SPDX-License-Identifier: MIT */
/*
 * What inode.c, inode-reach.c and inode-names.c share, and nobody else uses. Functions that end in
 * _locked want the table lock.
 */
#ifndef FS_INODE_TABLE_H
#define FS_INODE_TABLE_H

#include "fs/inode.h"

/* Whether stx is of this very inode. */
bool inode_is(const struct inode *i, const struct statx *stx);
/* The inode that has this identity, or NULL. */
struct inode *inode_find_locked(struct inode_table *t, const struct statx *stx);
/* Puts fd, of i, into the cache; what is one too many comes back, to be closed; or -1. */
int inode_cache_locked(struct inode_table *t, struct inode *i, int fd);
/* Takes i out of the cache; its descriptor, to be closed by the caller, or -1. */
int inode_uncache_locked(struct inode_table *t, struct inode *i);
/* Drops a reference; what falls to nothing is chained to *dead, for inode_free_chain() unlocked. */
void inode_unref_locked(struct inode_table *t, struct inode *i, struct inode **dead);
void inode_free_chain(struct inode_table *t, struct inode *dead);
/* Gives i the name; takes *copy when it is used. */
void inode_set_name_locked(struct inode_table *t, struct inode *i, struct inode *parent,
	const char *name, char **copy, struct inode **dead);
/* openat(2), trading cached directories for room in the descriptor table. */
int inode_open_trimming(struct inode_table *t, int dir_fd, const char *name, int flags);

#endif
