/* SPDX-License-Identifier: MIT */
/*
 * How much of a growing file has really been written. Any thread; takes the files lock.
 */
#ifndef FS_HOLES_H
#define FS_HOLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fs;
struct file;

/* Written bytes in one piece from offset on, at most want; negative errno. */
ssize_t holes_available(struct fs *fs, struct file *f, uint64_t offset, size_t want);

/*
 * The same for bytes that were just read: whether they prove themselves that all of them were
 * written. If not, which costs nothing but a look at their zeros, ask holes_available(). changes:
 * those of f->unwritten before they were read; a hole may be filled since.
 */
bool holes_all_written(struct fs *fs, struct file *f, uint64_t changes, uint64_t offset,
	const char *bytes, size_t n);

/* f begins to grow. */
void holes_begin(struct fs *fs, struct file *f);

/* f is about to be cut to size, and was: with the io lock held alone. 0 or negative errno. */
int holes_before_cut(struct fs *fs, struct file *f, uint64_t size);
int holes_after_cut(struct fs *fs, struct file *f, uint64_t size);

/*
 * Bytes of [*start, end) are about to be made a gap, with the io lock held alone: *start is moved
 * to where those written before it end, which cannot be told afterwards. 0 or negative errno.
 */
int holes_before_gap(struct fs *fs, struct file *f, uint64_t *start, uint64_t end);

/*
 * For fallocate(2), with the io lock held alone. Before it makes blocks of them or zeros, the holes
 * that reach into [start, end) are remembered; afterwards, what has no bytes of anybody now, or
 * will have none when the file grows. 0 or negative errno.
 */
int holes_before_allocation(struct fs *fs, struct file *f, uint64_t start, uint64_t end);
int holes_note(struct fs *fs, struct file *f, uint64_t start, uint64_t end);
/* The same, end being where the file ends now: the store may write zeros into the rest of its last
 * block when it grows on. */
int holes_note_grown(struct fs *fs, struct file *f, uint64_t start, uint64_t end);

#endif
