/* SPDX-License-Identifier: MIT */
/*
 * How a file ends: complete or aborted (DESIGN, "How a file ends").
 *
 * While a file is open its state is in struct file; an abort outlives that in memory
 * (end-memory.h), and the daemon in the marker (marker.h). Changes of state are made with the
 * file's setup lock held, so that the marker in the store and the state in memory go together; the
 * state itself is read and written under the files lock. The marker is written before the state
 * GROWING is seen by anyone and removed before COMPLETE is; with sync=complete it may be gone
 * earlier, while the disk is waited for without the lock, and a writer who comes then puts it back.
 */
#ifndef FS_END_H
#define FS_END_H

#include <fuse_lowlevel.h>
#include <stdint.h>

#include "fs/end-memory.h"
#include "fs/marker.h"
#include "fs/rule.h"

struct file;
struct fs;
struct handle;
struct inode;

/* i has no name any more, and need not be remembered, nor linger. The caller has a reference to it.
 */
void end_name_gone(struct fs *fs, struct inode *i);

/* A writer opens f: marks it and makes it growing. Setup lock held. */
void end_writer_comes(struct fs *fs, struct file *f);

/* What f was before an open of it that may yet fail. */
struct end_before {
	enum file_state state;
	uint64_t declared, writers_come;
	char reason[MARKER_REASON_MAX]; /* why it is aborted */
};
/* Setup lock held. */
void end_look(struct fs *fs, const struct file *f, struct end_before *ret);
/*
 * The open that made h failed: its file is again what it was before, unless another writer came
 * since. h is then to be removed, and the caller wakes. Setup lock held.
 */
void end_take_back(struct fs *fs, struct handle *h, const struct end_before *before);
/* f is complete, or about to be: takes its marker away. Setup lock held. */
void end_unmark(struct fs *fs, struct file *f);
/* FLUSH: how the process that closes a descriptor of h is doing. */
void end_judge(struct fs *fs, struct handle *h, pid_t pid);
/*
 * h, a writer, is closed; if it was the last one the file ends, lingers, or is left to completer.c.
 * Setup lock held. Tells whether the file ended: the caller wakes its readers, without the lock.
 */
bool end_writer_goes(struct fs *fs, struct handle *h);
/* No file is open any more: ends those whose RELEASE did not come. No thread but those of
 * completer.h is left. */
void end_all_closed(struct fs *fs);
/*
 * Completes f, whose writers had all gone when so many had come, unless another came since. May
 * wait for the disk; no lock held.
 */
void end_complete_closed(struct fs *fs, struct file *f, uint64_t writers);
/* Has files completed that lingered long enough, all of them with everything set. Milliseconds to
 * the next, -1 for none. */
int end_linger(struct fs *fs, bool everything);

/* By hand. reason may be NULL. Negative errno. */
int end_abort(struct fs *fs, struct inode *i, const char *reason);
int end_complete(struct fs *fs, struct inode *i);
/* -EPERM: not growing; -ERANGE: less than there is; -EFBIG. */
int end_declare(struct fs *fs, struct inode *i, uint64_t size);
/*
 * h, a handle of f, has emptied it to begin anew; had_bytes: there was something. A size that was
 * declared is that of bytes that are gone; of an empty file it is that of bytes to come, as in
 * "(rwwctl declare f 100; cmd >f) 3>f", as long as somebody else has it open. Setup lock held.
 */
void end_begin_anew(struct fs *fs, struct file *f, const struct handle *h, bool had_bytes);
/*
 * f has been emptied by one who cannot write it. If it was aborted it is complete then, or grows if
 * somebody else can. Setup lock held.
 */
void end_emptied(struct fs *fs, struct file *f);
/* f has this size: more than was declared ends the declaration. Files lock held. */
void end_check_declared_locked(struct file *f, uint64_t size);

#endif
