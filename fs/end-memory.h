/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of files that were aborted, while they are not open: in inode->aborted, which
 * is learnt from the marker in the store (marker.h), once, or when it is in doubt. Files lock.
 */
#ifndef FS_END_MEMORY_H
#define FS_END_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "fs/marker.h"

struct file;
struct fs;
struct inode;

/* Why an inode counts as aborted. Owned by the inode; files lock. */
struct aborted {
	struct list on_all; /* fs->aborted */
	struct inode *inode;
	uint64_t declared; /* RULE_NONE if none */
	bool kept;         /* by a reference to the inode: the store took no marker */
	bool found;        /* by its marker; when that has gone, it is not aborted any more */
	char reason[MARKER_REASON_MAX];
};

/* Learns from the store, once per inode, whether it was aborted. name in dir_fd is i. */
void end_recall(struct fs *fs, struct inode *i, int dir_fd, const char *name);
/*
 * The same when it is opened, for the state of f. If it was aborted by what the store said, that is
 * asked again: it may be growing through another mount, and complete by now. Setup lock held.
 */
void end_recall_open(struct fs *fs, struct file *f);
/* Likewise, when i is not being opened. No lock held. */
void end_recall_again(struct fs *fs, struct inode *i);
/* i has just been made: there is nothing to learn. */
void end_is_new(struct fs *fs, struct inode *i);
/* Called when the inode is freed. */
void end_forget(void *fs, struct inode *i);

/*
 * Without memory for it the abort is known while the file is open, and by its marker. Without a
 * marker it is known as long as the inode, which therefore outlives the kernel's interest.
 */
void end_remember_locked(struct fs *fs, struct inode *i, bool found, bool keep, uint64_t declared,
	const char *reason);
/* f grows or is complete. */
void end_forget_of_file_locked(struct fs *fs, struct file *f);

#endif
