/* SPDX-License-Identifier: MIT */
/*
 * Keeps the kernel's page cache true when writes pass the daemon: invalidate.c tells why.
 */
#ifndef FS_INVALIDATE_H
#define FS_INVALIDATE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

struct file;
struct fs;
struct inode;
struct statx;

/* A request for pages that is being served; file is compared, never followed. */
struct page_read {
	struct list entry;
	const struct file *file;
	uint64_t offset, end;
	uint64_t serial;
};

struct invalidator {
	pthread_cond_t more, size_moved; /* files lock; so is the rest */
	struct list queue;
	struct list reading; /* of struct page_read */
	uint64_t serial;     /* of who came last to either */
	bool renewing;       /* the thread waits for pages, which may wait for an answer of ours */
	bool ending;         /* it is not to, any more */
	bool stop, started;
	pthread_t thread;
};

/* Starts the thread. Negative errno. */
int invalidate_start(struct fs *fs);
/* The kernel asks for the attributes of i when it needs them again. Waits for nobody. */
void invalidate_attributes(struct fs *fs, struct inode *i);
/* Before requests are answered no more: whether no page is waited for, nor will be. Any thread. */
bool invalidate_end(struct fs *fs);
/* Answers what is queued and ends the thread, once no request is served any more. */
void invalidate_stop(struct fs *fs);

/* Before a write that may grow f: until it is answered its old size is shown. */
void invalidate_begin(struct fs *fs, struct file *f);
/* In place of the answer, when it failed. */
void invalidate_cancel(struct fs *fs, struct file *f);
/* Around an answer for the page cache, of up to n bytes at offset. */
void invalidate_page_begin(
	struct fs *fs, struct page_read *p, struct file *f, uint64_t offset, size_t n);
void invalidate_page_end(struct fs *fs, struct page_read *p);
/* Answers a write of n bytes at offset, once no page can hold what was there before; wakes. */
void invalidate_then_reply(fuse_req_t req, struct file *f, uint64_t offset, size_t n);
/* Answers a truncation to size with stx, whose size is larger, once no page holds what was cut. */
void invalidate_cut_then_reply(
	fuse_req_t req, struct file *f, uint64_t size, const struct statx *stx);
/* Before the size of i is told to the kernel. Files lock held; i->file may change meanwhile. */
void invalidate_await_size_locked(struct fs *fs, const struct inode *i);

#endif
