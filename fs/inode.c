/* SPDX-License-Identifier: MIT */
/*
 * Identities.
 *
 * A file has three names here. In the store it is (device, inode number), together with its birth
 * time, because the store gives a number out again once a file is gone; a store that keeps none has
 * the number's generation instead. For the kernel it is the address of a struct inode. To reach it
 * we use a path: parent and name, the last pair under which the kernel looked it up. No descriptor
 * is kept for it, so a million known files cost a million small structs and no descriptor; and no
 * privilege is needed, which opening file handles would.
 *
 * Every use of a path is checked against the identity: what is opened must be the inode meant,
 * otherwise the answer is ESTALE, upon which the kernel looks the name up again. So a store that is
 * changed behind the mount's back costs a retry, never a wrong file. Only O_PATH|O_NOFOLLOW opens
 * are done by name, so a name replaced by a symlink leads nowhere.
 *
 * Directories that were used lately keep an O_PATH descriptor, least recently used ones are closed
 * first. A file whose last name was removed has no path any more: its descriptor is pinned until
 * the kernel forgets it. A rename or removal changes names in the store first and in the table
 * afterwards; between inode_rename_begin() and _end() a path that fails is waited for, not
 * believed.
 *
 * Lock order: table lock is a leaf; no system call is made under it except close of nothing.
 */
#include "fs/inode-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define BUCKETS_FIRST 1024
#define STATX_WANTED  (STATX_BASIC_STATS | STATX_BTIME)

static size_t bucket_of(const struct inode_table *t, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 32)) * 0x9e3779b97f4a7c15u;

	return (size_t)(h >> 20) & (t->n_buckets - 1);
}

static dev_t statx_dev(const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

bool inode_is(const struct inode *i, const struct statx *stx)
{
	return i->ino == stx->stx_ino && i->dev == statx_dev(stx) &&
	       i->type == (stx->stx_mode & S_IFMT) && i->btime.tv_sec == stx->stx_btime.tv_sec &&
	       i->btime.tv_nsec == stx->stx_btime.tv_nsec;
}

static void inode_identify(struct inode *i, const struct statx *stx)
{
	i->ino = stx->stx_ino;
	i->dev = statx_dev(stx);
	i->type = stx->stx_mode & S_IFMT;
	i->btime.tv_sec = stx->stx_btime.tv_sec;
	i->btime.tv_nsec = stx->stx_btime.tv_nsec;
}

enum generation { GENERATION_NONE, GENERATION_FOUND, GENERATION_MOVED };

/*
 * What tells apart files that have the inode number one after the other, from the most common kind
 * of file handle (include/linux/exportfs.h, FILEID_INO32_GEN); others may change while a file
 * lives. GENERATION_MOVED: name is not what had that number any more.
 */
static enum generation generation_of(
	int dir_fd, const char *name, int flags, uint64_t number, uint32_t *ret)
{
	union {
		struct file_handle head;
		char room[sizeof(struct file_handle) + 2 * sizeof(uint32_t)];
	} handle = {.head = {.handle_bytes = 2 * sizeof(uint32_t)}};
	uint32_t ino;
	int mount;

	if (name_to_handle_at(dir_fd, name, &handle.head, &mount, flags & AT_EMPTY_PATH) < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ESTALE ? GENERATION_MOVED
									      : GENERATION_NONE;
	if (handle.head.handle_type != 1)
		return GENERATION_NONE;
	memcpy(&ino, handle.head.f_handle, sizeof(ino));
	memcpy(ret, handle.head.f_handle + sizeof(ino), sizeof(*ret));
	return ino == (uint32_t)number ? GENERATION_FOUND : GENERATION_MOVED;
}

/* In stores without times of birth (ext4 with inodes of 128 bytes) the generation stands there. */
int inode_statx(int dir_fd, const char *name, int flags, struct statx *ret)
{
	enum generation found = GENERATION_MOVED;
	uint32_t generation = 0;

	for (int tries = 0; tries < 8 && found == GENERATION_MOVED; tries++) {
		memset(ret, 0, sizeof(*ret));
		if (statx(dir_fd, name, flags | AT_NO_AUTOMOUNT, STATX_WANTED, ret) < 0)
			return -errno;
		if (ret->stx_mask & STATX_BTIME)
			return 0;
		found = generation_of(dir_fd, name, flags, ret->stx_ino, &generation);
	}
	if (found == GENERATION_FOUND)
		ret->stx_btime.tv_sec = generation;
	return 0;
}

static struct timespec timespec_from(const struct statx_timestamp *ts)
{
	return (struct timespec){.tv_sec = ts->tv_sec, .tv_nsec = ts->tv_nsec};
}

ino_t inode_shown_number(const struct inode_table *t, dev_t dev, ino_t ino)
{
	/* The upper half: numbers have few bits there. */
	const uint64_t upper = UINT64_MAX << 32, top = UINT64_C(1) << 63;

	return dev == t->root.dev ? ino : ino ^ (((dev * 0x9e3779b97f4a7c15u) & upper) | top);
}

void inode_stat_from_statx(const struct inode_table *t, const struct statx *stx, struct stat *ret)
{
	*ret = (struct stat){
		.st_dev = statx_dev(stx),
		.st_ino = inode_shown_number(t, statx_dev(stx), stx->stx_ino),
		.st_mode = stx->stx_mode,
		.st_nlink = stx->stx_nlink,
		.st_uid = stx->stx_uid,
		.st_gid = stx->stx_gid,
		.st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.st_size = (off_t)stx->stx_size,
		.st_blksize = (blksize_t)stx->stx_blksize,
		.st_blocks = (blkcnt_t)stx->stx_blocks,
		.st_atim = timespec_from(&stx->stx_atime),
		.st_mtim = timespec_from(&stx->stx_mtime),
		.st_ctim = timespec_from(&stx->stx_ctime),
	};
}

/* --- the table ------------------------------------------------------------------------------ */

int inode_table_init(struct inode_table *t, int root_fd, size_t max_cached)
{
	struct statx stx;
	int r;

	*t = (struct inode_table){.n_buckets = BUCKETS_FIRST, .max_cached = max_cached};
	t->root = (struct inode){.fd = root_fd, .nlookup = 1, .refs = 1};
	r = inode_statx(root_fd, "", AT_EMPTY_PATH, &stx);
	if (r < 0)
		return r;
	t->buckets = calloc(t->n_buckets, sizeof(struct inode *));
	if (!t->buckets)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->renamed, NULL);
	list_init(&t->lru);
	list_init(&t->root.lru);
	inode_identify(&t->root, &stx);
	t->buckets[bucket_of(t, t->root.dev, t->root.ino)] = &t->root;
	t->n_inodes = 1;
	return 0;
}

static void inode_free(struct inode_table *t, struct inode *i)
{
	if (i->aborted && t->on_free)
		t->on_free(t->on_free_data, i);
	if (i->fd >= 0)
		(void)close(i->fd); /* O_PATH: nothing to lose */
	free(i->name);
	free(i);
}

void inode_table_done(struct inode_table *t)
{
	for (size_t b = 0; t->buckets && b < t->n_buckets; b++)
		for (struct inode *i = t->buckets[b], *next; i; i = next) {
			next = i->hash_next;
			if (i != &t->root)
				inode_free(t, i);
		}
	free(t->buckets);
	t->buckets = NULL;
	if (t->root.fd >= 0)
		(void)close(steal_fd(&t->root.fd)); /* O_PATH: nothing to lose */
}

static void table_grow_locked(struct inode_table *t)
{
	struct inode **old = t->buckets, **bigger;
	size_t n_old = t->n_buckets;

	bigger = calloc(n_old * 2, sizeof(struct inode *));
	if (!bigger)
		return; /* longer chains, same answers */
	t->buckets = bigger;
	t->n_buckets = n_old * 2;
	for (size_t b = 0; b < n_old; b++)
		for (struct inode *i = old[b], *next; i; i = next) {
			struct inode **head = &bigger[bucket_of(t, i->dev, i->ino)];

			next = i->hash_next;
			i->hash_next = *head;
			*head = i;
		}
	free(old);
}

static void hash_locked(struct inode_table *t, struct inode *i)
{
	struct inode **head;

	if (++t->n_inodes > t->n_buckets)
		table_grow_locked(t);
	head = &t->buckets[bucket_of(t, i->dev, i->ino)];
	i->hash_next = *head;
	*head = i;
}

static void unhash_locked(struct inode_table *t, struct inode *i)
{
	struct inode **p;

	p = &t->buckets[bucket_of(t, i->dev, i->ino)];
	while (*p != i)
		p = &(*p)->hash_next;
	*p = i->hash_next;
	t->n_inodes--;
}

/* The inode that has this identity; one that merely has the number has become stale. */
struct inode *inode_find_locked(struct inode_table *t, const struct statx *stx)
{
	struct inode *i = t->buckets[bucket_of(t, statx_dev(stx), stx->stx_ino)];

	while (i && (i->stale || i->ino != stx->stx_ino || i->dev != statx_dev(stx)))
		i = i->hash_next;
	if (!i || inode_is(i, stx) || i == &t->root)
		return i;
	i->stale = true;
	return NULL;
}

/* Takes i out of the directory cache; its descriptor, to be closed by the caller, or -1. */
int inode_uncache_locked(struct inode_table *t, struct inode *i)
{
	if (!list_is_linked(&i->lru))
		return -1;
	list_del(&i->lru);
	t->n_cached--;
	return steal_fd(&i->fd);
}

/*
 * Drops one reference of ours. Inodes that fall to nothing are chained through hash_next to be
 * freed by inode_free_chain(), a parent after its last child.
 */
void inode_unref_locked(struct inode_table *t, struct inode *i, struct inode **dead)
{
	while (i && --i->refs == 0 && i->nlookup == 0 && i != &t->root) {
		struct inode *parent = i->parent;

		unhash_locked(t, i);
		if (list_is_linked(&i->lru)) {
			list_del(&i->lru);
			t->n_cached--;
		}
		i->hash_next = *dead;
		*dead = i;
		i = parent;
	}
}

void inode_free_chain(struct inode_table *t, struct inode *dead)
{
	while (dead) {
		struct inode *next = dead->hash_next;

		inode_free(t, dead);
		dead = next;
	}
}

void inode_ref(struct inode_table *t, struct inode *i)
{
	SCOPED_LOCK(&t->lock);
	i->refs++;
}

void inode_look_up(struct inode_table *t, struct inode *i)
{
	SCOPED_LOCK(&t->lock);
	i->nlookup++;
}

bool inode_try_ref(struct inode_table *t, struct inode *i)
{
	SCOPED_LOCK(&t->lock);
	if (!i->refs && !i->nlookup)
		return false;
	i->refs++;
	return true;
}

int inode_path(struct inode_table *t, struct inode *i, char *buf, size_t size)
{
	size_t at = size;

	SCOPED_LOCK(&t->lock);
	for (; i != &t->root; i = i->parent) {
		size_t len = i->name ? strlen(i->name) : 0;

		if (!i->name)
			return -ENOENT;
		if (at < len + 1)
			return -ENAMETOOLONG;
		at--;
		buf[at] = at == size - 1 ? '\0' : '/';
		at -= len;
		memcpy(buf + at, i->name, len);
	}
	if (at == size)
		buf[--at] = '\0';
	memmove(buf, buf + at, size - at);
	return 0;
}

void inode_unref(struct inode_table *t, struct inode *i)
{
	struct inode *dead = NULL;

	pthread_mutex_lock(&t->lock);
	inode_unref_locked(t, i, &dead);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, dead);
}

void inode_forget(struct inode_table *t, struct inode *i, uint64_t n)
{
	struct inode *dead = NULL;

	pthread_mutex_lock(&t->lock);
	i->refs++;
	i->nlookup -= n < i->nlookup ? n : i->nlookup;
	inode_unref_locked(t, i, &dead);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, dead);
}

/* Gives i the name; takes *copy when it is used. */
void inode_set_name_locked(struct inode_table *t, struct inode *i, struct inode *parent,
	const char *name, char **copy, struct inode **dead)
{
	if (i == &t->root || (i->parent == parent && i->name && !strcmp(i->name, name)))
		return;
	parent->refs++;
	if (i->parent)
		inode_unref_locked(t, i->parent, dead);
	i->parent = parent;
	free(i->name);
	i->name = steal_ptr(copy);
	i->stale = false;
}

static struct inode *new_locked(struct inode_table *t, const struct statx *stx)
{
	struct inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->fd = -1;
	list_init(&i->lru);
	inode_identify(i, stx);
	if (i->dev != t->root.dev)
		t->several = true;
	hash_locked(t, i);
	return i;
}

int inode_remember_unnamed(
	struct inode_table *t, int fd, const struct statx *stx, struct inode **ret)
{
	struct inode *i;
	int own = inode_table_allow(t, fcntl(fd, F_DUPFD_CLOEXEC, 0));

	if (own < 0)
		return -errno;
	pthread_mutex_lock(&t->lock);
	i = new_locked(t, stx);
	if (i) {
		i->fd = own;
		i->nlookup = 1;
	}
	pthread_mutex_unlock(&t->lock);
	if (!i) {
		(void)close(own); /* a duplicate */
		return -ENOMEM;
	}
	*ret = i;
	return 0;
}

int inode_remember(struct inode_table *t, struct inode *parent, const char *name,
	const struct statx *stx, struct inode **ret)
{
	struct inode *i, *dead = NULL;
	autofree char *copy = strdup(name);
	autoclose int unpinned = -1;

	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&t->lock);
	i = inode_find_locked(t, stx);
	if (!i) {
		i = new_locked(t, stx);
		if (!i) {
			pthread_mutex_unlock(&t->lock);
			return -ENOMEM;
		}
	} else if (i->fd >= 0 && !list_is_linked(&i->lru) && i != &t->root && !i->fd_users) {
		unpinned = steal_fd(&i->fd); /* it has a name again */
	}
	inode_set_name_locked(t, i, parent, name, &copy, &dead);
	i->nlookup++;
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, dead);
	*ret = i;
	return 0;
}
