/* SPDX-License-Identifier: MIT */
/*
 * Identities.
 *
 * A file has three names here. In the store it is (device, inode number), together with its birth
 * time, because the store gives a number out again once a file is gone. For the kernel it is the
 * address of a struct inode. To reach it we use a path: parent and name, the last pair under which
 * the kernel looked it up. No descriptor is kept for it, so a million known files cost a million
 * small structs and no descriptor; and no privilege is needed, which file handles would.
 *
 * Every use of a path is checked against the identity: what is opened must be the inode meant,
 * otherwise the answer is ESTALE, upon which the kernel looks the name up again. So a store that is
 * changed behind the mount's back costs a retry, never a wrong file. Only O_PATH|O_NOFOLLOW opens
 * are done by name, so a name replaced by a symlink leads nowhere.
 *
 * Directories that were used lately keep an O_PATH descriptor, least recently used ones are closed
 * first. A file whose last name was removed has no path any more: its descriptor is pinned until
 * the kernel forgets it. A rename moves names in the store first and in the table afterwards;
 * between inode_rename_begin() and _end() a path that fails is waited for, not believed.
 *
 * Lock order: table lock is a leaf; no system call is made under it except close of nothing.
 */
#include "fs/inode.h"

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

static bool inode_is(const struct inode *i, const struct statx *stx)
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

int inode_statx(int dir_fd, const char *name, int flags, struct statx *ret)
{
	memset(ret, 0, sizeof(*ret));
	return statx(dir_fd, name, flags | AT_NO_AUTOMOUNT, STATX_WANTED, ret) < 0 ? -errno : 0;
}

static struct timespec timespec_from(const struct statx_timestamp *ts)
{
	return (struct timespec){.tv_sec = ts->tv_sec, .tv_nsec = ts->tv_nsec};
}

void inode_stat_from_statx(const struct statx *stx, struct stat *ret)
{
	*ret = (struct stat){
		.st_dev = statx_dev(stx),
		.st_ino = stx->stx_ino,
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
static struct inode *find_locked(struct inode_table *t, const struct statx *stx)
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
static int uncache_locked(struct inode_table *t, struct inode *i)
{
	if (!list_is_linked(&i->lru))
		return -1;
	list_del(&i->lru);
	t->n_cached--;
	return steal_fd(&i->fd);
}

/*
 * Drops one reference of ours. Inodes that fall to nothing are chained through hash_next to be
 * freed by free_chain(), a parent after its last child.
 */
static void unref_locked(struct inode_table *t, struct inode *i, struct inode **dead)
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

static void free_chain(struct inode_table *t, struct inode *dead)
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
	unref_locked(t, i, &dead);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, dead);
}

void inode_forget(struct inode_table *t, struct inode *i, uint64_t n)
{
	struct inode *dead = NULL;

	pthread_mutex_lock(&t->lock);
	i->refs++;
	i->nlookup -= n < i->nlookup ? n : i->nlookup;
	unref_locked(t, i, &dead);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, dead);
}

/* Gives i the name; takes *copy when it is used. */
static void set_name_locked(struct inode_table *t, struct inode *i, struct inode *parent,
	const char *name, char **copy, struct inode **dead)
{
	if (i == &t->root || (i->parent == parent && i->name && !strcmp(i->name, name)))
		return;
	parent->refs++;
	if (i->parent)
		unref_locked(t, i->parent, dead);
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
	hash_locked(t, i);
	return i;
}

int inode_remember_unnamed(
	struct inode_table *t, int fd, const struct statx *stx, struct inode **ret)
{
	struct inode *i;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

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
	i = find_locked(t, stx);
	if (!i) {
		i = new_locked(t, stx);
		if (!i) {
			pthread_mutex_unlock(&t->lock);
			return -ENOMEM;
		}
	} else if (i->fd >= 0 && !list_is_linked(&i->lru) && i != &t->root && !i->fd_users) {
		unpinned = steal_fd(&i->fd); /* it has a name again */
	}
	set_name_locked(t, i, parent, name, &copy, &dead);
	i->nlookup++;
	pthread_mutex_unlock(&t->lock);
	free_chain(t, dead);
	*ret = i;
	return 0;
}

/* --- reaching the store --------------------------------------------------------------------- */

/* Whether a path that failed should be tried again: names moved since serial, or are moving. */
static bool names_moved(struct inode_table *t, uint64_t serial)
{
	SCOPED_LOCK(&t->lock);
	if (t->names_serial != serial)
		return true;
	if (!t->names_busy)
		return false;
	while (t->names_busy && t->names_serial == serial)
		pthread_cond_wait(&t->renamed, &t->lock);
	return true;
}

/* Puts the descriptor of a directory just opened into the cache; one too many comes back. */
static int cache_locked(struct inode_table *t, struct inode *i, int fd)
{
	if (i->fd >= 0)
		return fd;
	i->fd = fd;
	list_add_tail(&t->lru, &i->lru);
	if (++t->n_cached <= t->max_cached)
		return -1;
	list_for_each_safe (it, &t->lru) {
		struct inode *old = list_entry(it, struct inode, lru);

		if (!old->fd_users && old != i)
			return uncache_locked(t, old);
	}
	return -1;
}

bool inode_table_trim(struct inode_table *t)
{
	bool any = false;

	for (;;) {
		int fd = -1;

		pthread_mutex_lock(&t->lock);
		list_for_each_safe (it, &t->lru) {
			struct inode *i = list_entry(it, struct inode, lru);

			if (!i->fd_users) {
				fd = uncache_locked(t, i);
				break;
			}
		}
		pthread_mutex_unlock(&t->lock);
		if (fd < 0)
			return any;
		(void)close(fd); /* O_PATH: nothing to lose */
		any = true;
	}
}

void inode_table_starved(struct inode_table *t)
{
	int saved = errno;
	bool first;

	pthread_mutex_lock(&t->lock);
	first = !t->starved_said;
	t->starved_said = true;
	pthread_mutex_unlock(&t->lock);
	if (first)
		log_warn("out of file descriptors (RLIMIT_NOFILE): files fail to open until some "
			 "are closed");
	errno = saved;
}

/* openat(2), trading cached directories for room in the descriptor table. */
static int open_trimming(struct inode_table *t, int dir_fd, const char *name, int flags)
{
	int fd = openat(dir_fd, name, flags);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && inode_table_trim(t))
		fd = openat(dir_fd, name, flags);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		inode_table_starved(t);
	return fd < 0 ? -errno : fd;
}

/* Opens name in dir_fd as O_PATH if it is i. */
static int open_checked(struct inode_table *t, struct inode *i, int dir_fd, const char *name,
	int *ret_fd, struct statx *ret_stx)
{
	autoclose int fd = open_trimming(t, dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
	r = inode_statx(fd, "", AT_EMPTY_PATH, ret_stx);
	if (r < 0)
		return r;
	if (!inode_is(i, ret_stx))
		return -ESTALE;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* Opens the uncached directory of i's ancestry (or i) that is nearest to a usable descriptor. */
static int open_next_dir(struct inode_table *t, struct inode *i)
{
	autofree char *name = NULL;
	struct inode *dir = i, *parent, *dead = NULL;
	struct statx stx;
	uint64_t serial;
	int r, fd = -1, parent_fd;

	pthread_mutex_lock(&t->lock);
	serial = t->names_serial;
	while (dir->fd < 0 && dir->parent && dir->parent->fd < 0)
		dir = dir->parent;
	parent = dir->parent;
	if (dir->fd >= 0 || !parent) {
		r = dir->fd >= 0 ? 0 : -ESTALE;
		pthread_mutex_unlock(&t->lock);
		return r;
	}
	name = strdup(dir->name);
	parent->fd_users++;
	parent_fd = parent->fd;
	dir->refs++;
	parent->refs++;
	pthread_mutex_unlock(&t->lock);

	r = name ? open_checked(t, dir, parent_fd, name, &fd, &stx) : -ENOMEM;
	if (r == -ESTALE && names_moved(t, serial))
		r = 0; /* the caller comes again */

	pthread_mutex_lock(&t->lock);
	parent->fd_users--;
	if (fd >= 0)
		fd = cache_locked(t, dir, fd);
	unref_locked(t, parent, &dead);
	unref_locked(t, dir, &dead);
	pthread_mutex_unlock(&t->lock);
	if (fd >= 0)
		(void)close(fd); /* O_PATH: nothing to lose */
	free_chain(t, dead);
	return r;
}

int inode_acquire_dir(struct inode_table *t, struct inode *i, int *ret_fd)
{
	for (;;) {
		int r;

		pthread_mutex_lock(&t->lock);
		if (i->fd >= 0) {
			i->fd_users++;
			if (list_is_linked(&i->lru)) {
				list_del(&i->lru);
				list_add_tail(&t->lru, &i->lru);
			}
			*ret_fd = i->fd;
			pthread_mutex_unlock(&t->lock);
			return 0;
		}
		pthread_mutex_unlock(&t->lock);
		r = open_next_dir(t, i);
		if (r < 0)
			return r;
	}
}

void inode_release_dir(struct inode_table *t, struct inode *i)
{
	SCOPED_LOCK(&t->lock);
	i->fd_users--;
}

/* Where i is: its parent's descriptor (acquired) and a copy of its name, or its own pinned one. */
struct place {
	struct inode *dir; /* acquired and referenced; NULL when fd is i's own */
	int fd;
	char *name;
	uint64_t serial;
};

static void place_leave(struct inode_table *t, struct inode *i, struct place *p)
{
	inode_release_dir(t, p->dir ? p->dir : i);
	if (p->dir)
		inode_unref(t, p->dir);
	free(p->name);
}

static int place_find(struct inode_table *t, struct inode *i, struct place *ret)
{
	struct place p = {.fd = -1};
	int r;

	pthread_mutex_lock(&t->lock);
	p.serial = t->names_serial;
	if (i->fd >= 0) {
		i->fd_users++;
		p.fd = i->fd;
		pthread_mutex_unlock(&t->lock);
		*ret = p;
		return 0;
	}
	if (!i->parent) {
		pthread_mutex_unlock(&t->lock);
		return -ESTALE;
	}
	p.name = strdup(i->name);
	p.dir = i->parent;
	p.dir->refs++;
	pthread_mutex_unlock(&t->lock);

	r = p.name ? inode_acquire_dir(t, p.dir, &p.fd) : -ENOMEM;
	if (r < 0) {
		inode_unref(t, p.dir);
		free(p.name);
		return r;
	}
	*ret = p;
	return 0;
}

/* Turns an O_PATH descriptor into one with these flags. */
static int reopen(struct inode_table *t, int path_fd, int flags)
{
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	return open_trimming(t, AT_FDCWD, link, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
}

/* Opens a regular file or directory by its name at once, instead of through an O_PATH descriptor.
 */
static int open_by_name(struct inode_table *t, struct inode *i, const struct place *p, int flags)
{
	struct statx stx;
	autoclose int fd = open_trimming(
		t, p->fd, p->name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	r = inode_statx(fd, "", AT_EMPTY_PATH, &stx);
	if (r < 0)
		return r;
	return inode_is(i, &stx) ? steal_fd(&fd) : -ESTALE;
}

int inode_open(struct inode_table *t, struct inode *i, int flags, int *ret_fd)
{
	for (;;) {
		struct place p;
		struct statx stx;
		int r, fd = -1;

		r = place_find(t, i, &p);
		if (r < 0)
			return r;
		if (!p.name) {
			r = flags & O_PATH ? fcntl(p.fd, F_DUPFD_CLOEXEC, 0)
					   : reopen(t, p.fd, flags);
			fd = r < 0 && (flags & O_PATH) ? -errno : r;
		} else if (flags & O_PATH) {
			r = open_checked(t, i, p.fd, p.name, &fd, &stx);
			fd = r < 0 ? r : fd;
		} else if (flags & (O_TRUNC | O_CREAT)) {
			fd = -EINVAL; /* by name they would hit a stranger */
		} else {
			fd = open_by_name(t, i, &p, flags);
		}
		place_leave(t, i, &p);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (fd != -ESTALE || !names_moved(t, p.serial))
			return fd;
	}
}

int inode_stat(struct inode_table *t, struct inode *i, struct statx *ret)
{
	for (;;) {
		struct place p;
		int r;

		r = place_find(t, i, &p);
		if (r < 0)
			return r;
		if (p.name)
			r = inode_statx(p.fd, p.name, AT_SYMLINK_NOFOLLOW, ret);
		else
			r = inode_statx(p.fd, "", AT_EMPTY_PATH, ret);
		place_leave(t, i, &p);
		if (r == 0 && inode_is(i, ret))
			return 0;
		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			return r;
		if (!names_moved(t, p.serial))
			return -ESTALE;
	}
}

/* --- names that go and move ----------------------------------------------------------------- */

void inode_name_grip(struct inode_table *t, int dir_fd, const char *name, struct inode_grip *ret)
{
	struct statx stx;
	int fd = open_trimming(t, dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	*ret = (struct inode_grip){.fd = -1};
	if (fd < 0 || inode_statx(fd, "", AT_EMPTY_PATH, &stx) < 0) {
		if (fd >= 0)
			(void)close(fd); /* O_PATH: nothing to lose */
		return;
	}
	ret->fd = fd;
	pthread_mutex_lock(&t->lock);
	ret->inode = find_locked(t, &stx);
	if (ret->inode)
		ret->inode->refs++;
	pthread_mutex_unlock(&t->lock);
}

void inode_name_kept(struct inode_table *t, struct inode_grip *grip)
{
	if (grip->fd >= 0)
		(void)close(grip->fd); /* O_PATH: nothing to lose */
	if (grip->inode)
		inode_unref(t, grip->inode);
	*grip = (struct inode_grip){.fd = -1};
}

static bool inode_is_open(const struct inode *i)
{
	return __atomic_load_n(&i->file, __ATOMIC_RELAXED); /* at this moment: no lock */
}

void inode_name_gone(
	struct inode_table *t, struct inode *parent, const char *name, struct inode_grip *grip)
{
	struct inode *i = grip->inode, *dead = NULL;
	struct statx stx = {.stx_nlink = 0};

	if (i && i->type != S_IFDIR)
		(void)inode_statx(grip->fd, "", AT_EMPTY_PATH, &stx); /* then it counts as gone */
	if (i) {
		pthread_mutex_lock(&t->lock);
		if (i->parent == parent && i->name && !strcmp(i->name, name)) {
			unref_locked(t, i->parent, &dead);
			i->parent = NULL;
			free(steal_ptr(&i->name));
		}
		i->stale = stx.stx_nlink == 0;
		/*
		 * Without any name it is reachable through this descriptor alone. One that has
		 * another name is not pinned, it could be one of thousands: ESTALE makes the
		 * kernel look that name up. Unless it is open, when there is no looking up.
		 */
		if (!i->parent && (i->stale || inode_is_open(i))) {
			if (list_is_linked(&i->lru)) {
				list_del(&i->lru);
				t->n_cached--;
			} else if (i->fd < 0) {
				i->fd = steal_fd(&grip->fd);
			}
		}
		pthread_mutex_unlock(&t->lock);
		free_chain(t, dead);
	}
	inode_name_kept(t, grip);
}

void inode_rename_begin(struct inode_table *t)
{
	SCOPED_LOCK(&t->lock);
	t->names_busy++;
}

void inode_rename_end(struct inode_table *t)
{
	SCOPED_LOCK(&t->lock);
	t->names_serial++;
	t->names_busy--;
	pthread_cond_broadcast(&t->renamed);
}

void inode_renamed(struct inode_table *t, struct inode *i, struct inode *parent, const char *name)
{
	struct inode *dead = NULL;
	autofree char *copy = strdup(name);

	if (!copy)
		return; /* found again, by ESTALE and a new lookup */
	pthread_mutex_lock(&t->lock);
	set_name_locked(t, i, parent, name, &copy, &dead);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, dead);
}
