/* SPDX-License-Identifier: MIT */
/*
 * A file that is open: one struct file per inode with at least one handle, shared by all of them.
 *
 * Ownership: references (refs) are held by handles and by requests under way; the last one closes
 * the descriptors and the kernel's backing. Locks, outermost first: setup (descriptors, backing),
 * io (reads share it, truncation has it alone, so that no read mixes bytes from before and after;
 * the store may keep that waiting for long, so reads that do not get it are held, see hold.h), the
 * files lock. Errors are negative errno.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/list.h"
#include "fs/marker.h"
#include "fs/ranges.h"
#include "fs/rule.h"

struct fs;
struct inode;
struct statx;

enum handle_kind {
	HANDLE_WRITER,   /* can write; never held */
	HANDLE_FOLLOWER, /* held at the live edge, whenever the file grows */
	HANDLE_PLAIN,    /* EOF at the current end */
};

struct file {
	struct inode *inode; /* referenced */
	pthread_mutex_t setup;
	/* Written with the setup lock, read by anyone; once set they stay. */
	_Atomic int fd_read, fd_write; /* may be the same */
	_Atomic int backing_id;        /* > 0: the kernel moves the data */
	bool path_decided;             /* setup; backing_id says which way all handles go */
	atomic_bool lost;              /* an fsync failed: its bytes may not be on the disk */
	_Atomic uint32_t losses;       /* how many did since it was opened */
	atomic_int loss;               /* negative errno of the last one */
	pthread_rwlock_t io;
	/* The files lock guards the rest. */
	uint32_t refs;
	uint32_t writers;
	enum file_state state;
	bool marked;       /* setup; its marker is in the store */
	bool recalled;     /* the state from before was looked up */
	uint64_t since_ms; /* when it began to grow */
	uint64_t linger_until_ms;
	uint64_t writers_come, writers_when_queued; /* how often one came; completer.h */
	struct timespec judged;          /* the mtime when a writer was last seen to close */
	bool failed;                     /* its process did then */
	char failure[MARKER_REASON_MAX]; /* how; here, as it must be told without memory, too */
	struct list lingering;           /* fs->lingering, which then holds a reference */
	struct list completing;          /* completer.h; likewise */
	struct list writing_out;         /* writeout.h; likewise */
	struct range to_write_out;
	uint32_t doubts;             /* writeout.h: how often it was asked for */
	uint64_t written_out_ms;     /* when that was last done */
	struct list on_all;          /* fs->files */
	uint64_t rate_ms, rate_size; /* status.c: when its speed was last measured, and its size */
	double rate;                 /* bytes per second */
	char note[96];               /* what became of the declared size; may be "" */
	uint64_t declared;           /* RULE_NONE if none */
	uint64_t end;                /* without passthrough: how far the daemon has written */
	uint64_t edge_told;          /* the furthest edge that user.rww.progress told */
	uint64_t cuts;               /* how often bytes before it were taken away */
	struct timespec retimed,
		written;      /* the mtime that was set while nobody wrote, and before */
	bool page_asked;      /* invalidate.c: since the last write */
	uint64_t page_ms;     /* invalidate.c: the last time */
	bool size_moves;      /* invalidate.c */
	uint64_t hidden_from; /* invalidate.c; RULE_NONE, or the size to show meanwhile */
	uint32_t n_changing;  /* those who have or want the io lock alone */
	struct ranges unwritten;
	bool bytes_only;   /* the store's word on data is not enough */
	uint64_t examined; /* holes.c: no gap before it is in the store's reserve unremembered */
	struct list handles;
	struct list waiters;  /* hold.h */
	uint32_t n_held;      /* waiters that are reads, or opens about to read */
	uint32_t n_polled;    /* handles with ph */
	uint64_t polls;       /* how many ph were left */
	uint64_t looked_size; /* watch.c: its thread's */
	uint64_t look;        /* watch.c: the last round in which it was looked at */
	int wd;               /* inotify watch; -1: not armed */
	struct list by_wd;    /* watch.h */
	struct list timed;    /* watch.h: looked at by timer */
};

struct handle {
	struct file *file; /* referenced */
	struct list on_file;
	enum handle_kind kind;
	pid_t opener;       /* thread id; 0: of another pid namespace */
	bool nonblock;      /* O_NONBLOCK was given to open(2), so reads need not heed it */
	bool never_held;    /* a plain handle was asked for; a follower if the file was aborted */
	bool was_growing;   /* files lock; poll may say POLLHUP */
	uint64_t pos;       /* files lock; end of the last read, or where it got EAGAIN */
	uint64_t delivered; /* files lock; furthest byte read */
	uint32_t asked;     /* files lock; what the last read wanted, if it got EAGAIN; or 0 */
	uint64_t cut;       /* files lock; see struct rule_input */
	uint64_t cuts;      /* the file's, when it was opened */
	_Atomic uint32_t losses; /* the file's, as far as fsync(2) has told of them */
	uint64_t told;           /* files lock; poll: the size last reported */
	uint64_t shown; /* files lock; poll: the size in an answer that may not have arrived */
	bool judged;    /* files lock; a writer: one of its descriptors was closed */
	bool let_go;    /* files lock; likewise, by its opener, after a size was declared; or
			   what it wrote is gone */
	struct fuse_pollhandle *ph; /* files lock; to be notified */
	uint64_t poll_number;       /* files lock; which of the file's ph that is */
	bool growth_polled;         /* files lock; ph is for more than the end of the file */
};

/* The inode's open file, made if there is none. -ENOMEM. */
int file_get(struct fs *fs, struct inode *inode, struct file **ret);
/* The inode's open file if it has a descriptor by now; to be put. NULL otherwise. */
struct file *file_if_open(struct fs *fs, struct inode *inode);
/*
 * Attributes of any inode, and a descriptor that stands for it (O_PATH, or more), the caller's. If
 * its name was changed in the store, behind the mount's back, it is reached by being open.
 */
int file_stat(struct fs *fs, struct inode *i, struct statx *ret);
int file_reach(struct fs *fs, struct inode *i, int *ret_fd);
/* When it was last written to: its mtime, unless that was set since, by touch(1). Files lock. */
struct timespec file_written_locked(const struct file *f, const struct stat *st);
/* Its mtime was set from before to after, while nobody could write. Files lock. */
void file_retimed_locked(struct file *f, const struct stat *before, const struct stat *after);
/* Adds a reference to a file the caller knows to be alive; files lock held. */
struct file *file_ref_locked(struct file *f);
void file_put(struct fs *fs, struct file *f);

/*
 * Sees to descriptors for reading and/or writing; setup lock held. fd >= 0 is one that the caller
 * has just opened with O_RDWR: it is taken.
 */
int file_open_descriptors(struct fs *fs, struct file *f, bool read, bool write, int fd);
/* Decides once whether the kernel moves the data; setup lock held. */
void file_decide_path(struct fs *fs, struct file *f, fuse_req_t req);

static inline bool file_is_passthrough(const struct file *f)
{
	return f->backing_id > 0;
}

/* Any descriptor of f: for fstat, fsync, lseek. */
static inline int file_fd(const struct file *f)
{
	return f->fd_read >= 0 ? f->fd_read : f->fd_write;
}

/* Setup lock held. */
int file_add_handle(
	struct fs *fs, struct file *f, enum handle_kind kind, pid_t opener, struct handle **ret);
/* Ends a handle, and with the last writer's the file. Frees h. Setup lock not held. */
void file_remove_handle(struct fs *fs, struct handle *h);
bool file_is_growing(struct fs *fs, struct file *f);

/*
 * fsync(2), or with data_only fdatasync(2). The kernel tells once per descriptor of bytes that were
 * lost, and all handles have this one: so the others are told of it when they ask. h: who asks, or
 * NULL.
 */
int file_sync(struct file *f, struct handle *h, bool data_only);

/* The io lock, alone. The caller wakes afterwards, whatever came of it. */
void file_begin_change(struct fs *fs, struct file *f);
void file_end_change(struct fs *fs, struct file *f);
/* It was cut at offset, while the io lock is held: readers that went further must not take up what
 * comes next. */
void file_cut(struct fs *fs, struct file *f, uint64_t offset);
/* ftruncate(2), and what it means to those who read further. Begins and ends a change. */
int file_truncate(struct fs *fs, struct file *f, uint64_t size);
/* stx is about to be told to the kernel for i. */
void file_note_told(struct fs *fs, struct inode *i, const struct statx *stx);

#endif
