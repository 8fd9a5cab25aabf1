/* SPDX-License-Identifier: MIT */
/*
 * The mount: what every request handler needs, and the table of contents of the filesystem.
 * One per process. Handlers run on the loop's threads and find it with fs_of().
 *
 *   loop.c       the threads that take requests
 *   rule.c       what a read at an offset gets: pure
 *   holes.c      how much of a growing file has really been written
 *   reserve.c    space that the store holds ready for a file, and that looks written
 *   file.c       a file that is open: descriptors, writers, state, handles
 *   writeout.c   the thread that has zeros written to the disk, which then tells
 *   hold.c       who waits, and waking them
 *   end.c        complete or aborted; end-memory.c: what is remembered; marker.c: in the store
 *   leftover.c   markers that could not be removed when their file was complete
 *   state.c      the attributes user.rww.*
 *   process.c    how a writer ended, and who it is
 *   completer.c  the threads that complete files where that has to wait
 *   invalidate.c what keeps the kernel's page cache true, and the thread that does it
 *   status.c     MOUNTPOINT/.rww/status
 *   watch.c      the background threads: inotify; timers, interrupts, signals
 *   inode.c      identities, and the way from a node number into the store
 *   open.c read.c write.c poll.c names.c directory.c attr.c xattr.c ioctl.c    the requests
 *   reply.c      the only caller of fuse_reply_*
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fs/completer.h"
#include "fs/hold.h"
#include "fs/inode.h"
#include "fs/invalidate.h"
#include "fs/loop.h"
#include "fs/options.h"
#include "fs/watch.h"
#include "fs/writeout.h"

#define SENT_BACK 128

/* An open that was told to look its name up first (open.c); inode is compared, never followed. */
struct sent_back {
	const struct inode *inode;
	pid_t pid;
};

struct fs {
	struct options opt; /* read-only once mounted */
	struct inode_table inodes;
	/*
	 * The files lock: struct inode's file pointer, struct file, struct handle and struct hold,
	 * where they say so. Taken alone or inside a file's setup lock, never around a reply, a
	 * notification, fuse_req_interrupt_func() or a system call that can wait.
	 */
	struct inode status_dir, status_file; /* status.c */
	pthread_mutex_t files_lock;
	struct hold hold;
	struct list files;                     /* files lock; every open file */
	struct list lingering;                 /* files lock; soonest to be completed first */
	struct list aborted;                   /* files lock; struct aborted of every known one */
	struct list leftovers;                 /* files lock; leftover.c */
	struct sent_back sent_back[SENT_BACK]; /* files lock; free places first, then the oldest */
	size_t sent_back_next;                 /* files lock */
	atomic_bool unmarked_said;             /* the store takes no markers, and it was said */
	atomic_bool full_said; /* the same, of a failure since which none was taken */
	struct loop loop;
	struct watch watch;
	struct completer completer;
	struct writeout writeout;
	struct invalidator invalidator;
	struct fuse_session *session;
	bool privileged;                 /* act with the caller's ids */
	_Atomic uint64_t roomy_until_ms; /* creds.c */
	bool passthrough;                /* negotiated */
	bool passthrough_said;           /* a refusal was logged; files lock */
	bool serving;                    /* INIT succeeded */
	bool splices;                    /* large answers, through pipes */
	unsigned threads;                /* of the loop, at most */
	uint64_t hold_limit_ms;   /* how long a request may be held without growth; 0: no limit */
	uint64_t system_limit_ms; /* how long with growth, too; 0: no limit */
	size_t request_max;       /* bytes of the largest read request */
	size_t block;             /* granularity of holes in the store, bytes */
	int store_fd;             /* the store's directory, locked against a second daemon */
	int ready_fd;             /* tells the parent that the mount answers; -1 if none */
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Mounts and serves until it is unmounted or told to stop. 0, or negative errno after a message. */
int fs_run(struct fs *fs);

/* Request handlers, by file. */
void names_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void names_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void names_readlink(fuse_req_t req, fuse_ino_t ino);
void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void names_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags);
void names_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);

void directory_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void directory_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void directory_read_plus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void directory_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void directory_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void attr_get(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void attr_set(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi);
void attr_statfs(fuse_req_t req, fuse_ino_t ino);

void xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size);
void xattr_set(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
	int flags);
void xattr_remove(fuse_req_t req, fuse_ino_t ino, const char *name);

void ioctl_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	unsigned flags, const void *in, size_t in_size, size_t out_size);

void open_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void open_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void open_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void open_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void open_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void read_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void read_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void poll_poll(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph);

void write_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi);
void write_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void write_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi);
void write_copy(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
	fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);

/* The inode behind a node number. */
static inline struct inode *fs_inode(struct fs *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &fs->inodes.root : (struct inode *)(uintptr_t)ino;
}

static inline fuse_ino_t fs_ino(struct fs *fs, const struct inode *i)
{
	return i == &fs->inodes.root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)i;
}

#endif
