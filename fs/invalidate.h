/* SPDX-License-Identifier: MIT */
/*
 * Keeps the kernel's page cache true when writes pass the daemon: invalidate.c tells why.
 */
#ifndef FS_INVALIDATE_H
#define FS_INVALIDATE_H

#include <fuse_lowlevel.h>
#include <stdint.h>

struct file;
struct fs;
struct inode;

/* Before a write that may grow f: until it is answered its old size is shown. */
void invalidate_begin(struct fs *fs, struct file *f);
/* In place of the answer, when it failed. */
void invalidate_cancel(struct fs *fs, struct file *f);
/* Before an answer for the page cache. */
void invalidate_note_page(struct fs *fs, struct file *f);
/* Answers a write of n bytes at offset, once no page can hold what was there before; wakes. */
void invalidate_then_reply(fuse_req_t req, struct file *f, uint64_t offset, size_t n);
/* Before the size of i is told to the kernel. Files lock held; i->file may change meanwhile. */
void invalidate_await_size_locked(struct fs *fs, const struct inode *i);
/* For the background thread: does what was put off. */
void invalidate_run(struct fs *fs);

#endif
