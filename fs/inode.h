/* SPDX-License-Identifier: MIT */
/*
 * Inodes: what the kernel's node numbers stand for, and how to reach them in the store.
 *
 * A fuse_ino_t is the address of a struct inode. Two counters keep it alive: nlookup, the kernel's
 * references (raised by every entry we reply, lowered by FORGET), and refs, our own (children that
 * name it as parent, open files, requests under way). Any thread may call anything here; the table
 * has one lock, held for no system call. Errors are negative errno.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/list.h"

struct aborted;
struct file;
struct inode_table;

struct inode {
	struct inode *hash_next; /* table lock */
	struct inode *parent;    /* table lock; NULL: root, or no name is known */
	char *name;              /* table lock; in parent */
	struct file *file;       /* files lock (file.h); non-NULL while open */
	struct aborted *aborted; /* files lock (end.h); NULL unless it is */
	struct list lru;         /* table lock; directories whose fd may be closed */
	ino_t ino;
	dev_t dev;
	struct timespec btime; /* tells a reused inode number from the one we knew */
	uint64_t nlookup;      /* table lock */
	uint32_t refs;         /* table lock */
	uint32_t fd_users;     /* table lock; requests that use fd right now */
	int fd;                /* table lock; O_PATH: a cached directory, or pinned (see unlink) */
	mode_t type;           /* S_IFMT bits */
	bool end_known;        /* files lock; the store was asked whether it is aborted */
	bool size_told;        /* files lock; the kernel knows that it is not empty (open.c) */
	bool marker_left;      /* files lock; leftover.h */
	atomic_bool mapped;    /* it may be, to be written: its times change unseen (open.c) */
	bool stale;            /* table lock; its number may stand for another file by now */
};

struct inode_table {
	pthread_mutex_t lock;
	pthread_cond_t renamed; /* names_busy fell to 0 */
	struct inode **buckets;
	size_t n_buckets, n_inodes;
	struct list lru; /* oldest first */
	size_t n_cached, max_cached;
	unsigned names_busy; /* renames whose names are not in the table yet */
	bool starved_said;
	/*
	 * Descriptors from this number on are not for the store's files: without one for /proc
	 * nobody knows how a writer ended. The lowest free one is given out. 0: there is no limit.
	 */
	int fd_limit;
	uint64_t names_serial; /* counts finished renames */
	atomic_bool several;   /* something was met that is not on the root's device */
	struct inode root;
	void (*on_free)(void *data, struct inode *i); /* no lock held */
	void *on_free_data;
};

/* Takes root_fd (O_PATH). max_cached: how many directory descriptors may be kept. */
int inode_table_init(struct inode_table *t, int root_fd, size_t max_cached);
void inode_table_done(struct inode_table *t);
/* Closes idle cached descriptors, for a caller that met EMFILE. Tells whether any was closed. */
bool inode_table_trim(struct inode_table *t);

/* fd, from open(2); if it is one of those that are not for files, it is closed, and errno EMFILE.
 */
int inode_table_allow(const struct inode_table *t, int fd);
/* Says once that descriptors ran out. */
void inode_table_starved(struct inode_table *t);

void inode_ref(struct inode_table *t, struct inode *i);
void inode_unref(struct inode_table *t, struct inode *i);
/* One more lookup for the kernel, of an inode the caller owns. */
void inode_look_up(struct inode_table *t, struct inode *i);
/* False when it is about to be freed. */
bool inode_try_ref(struct inode_table *t, struct inode *i);
/* FORGET. */
void inode_forget(struct inode_table *t, struct inode *i, uint64_t n);

/*
 * The inode for st, as found under name in parent, made if unknown, with one more lookup for the
 * kernel. -ENOMEM.
 */
int inode_remember(struct inode_table *t, struct inode *parent, const char *name,
	const struct statx *stx, struct inode **ret);

/* The same for an open file without a name (O_TMPFILE): reachable through fd's file. */
int inode_remember_unnamed(
	struct inode_table *t, int fd, const struct statx *stx, struct inode **ret);

/* statx(2) with what inodes need; flags as there. */
int inode_statx(int dir_fd, const char *name, int flags, struct statx *ret);
void inode_stat_from_statx(const struct inode_table *t, const struct statx *stx, struct stat *ret);
/*
 * The inode number that programs see, to whom all of the mount is one device: the store's. Those of
 * another filesystem that lies in the store, or of another subvolume, are given again, so they are
 * changed: cp(1) and tar(1) take files of one number for links of each other.
 */
ino_t inode_shown_number(const struct inode_table *t, dev_t dev, ino_t ino);

/*
 * A descriptor of a directory (O_PATH), kept open until inode_release_dir(). -ESTALE when the store
 * no longer has it where it was.
 */
int inode_acquire_dir(struct inode_table *t, struct inode *i, int *ret_fd);
void inode_release_dir(struct inode_table *t, struct inode *i);

/* Opens any inode with these open(2) flags, never following a symlink; the caller owns *ret_fd. */
int inode_open(struct inode_table *t, struct inode *i, int flags, int *ret_fd);
/* Its path below the root. -ENOENT: it has no name any more; -ENAMETOOLONG. */
int inode_path(struct inode_table *t, struct inode *i, char *buf, size_t size);
/* Attributes of any inode. */
int inode_stat(struct inode_table *t, struct inode *i, struct statx *ret);

/*
 * Names that go. Before unlink, rmdir and the target of a rename: inode_name_grip() holds what the
 * name stands for (grip->fd, O_PATH; -1 if there is none). Once it is gone inode_name_gone() keeps
 * the inode reachable; it tells whether that was the last name of one the kernel knows. In the end
 * inode_name_let_go().
 */
struct inode_grip {
	int fd;
	struct inode *inode; /* referenced; NULL when the kernel does not know it */
};
void inode_name_grip(struct inode_table *t, int dir_fd, const char *name, struct inode_grip *ret);
bool inode_name_gone(
	struct inode_table *t, struct inode *parent, const char *name, struct inode_grip *grip);
void inode_name_let_go(struct inode_table *t, struct inode_grip *grip);

/* Around a rename or removal: nobody takes a half-done one for a lost file. */
void inode_rename_begin(struct inode_table *t);
void inode_rename_end(struct inode_table *t);
/* i, if known to the kernel, is now called name in parent. */
void inode_renamed(struct inode_table *t, struct inode *i, struct inode *parent, const char *name);

#endif
