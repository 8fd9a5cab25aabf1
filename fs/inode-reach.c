/* SPDX-License-Identifier: MIT */
/* From an inode into the store: descriptors of directories, paths, and their failing. */
#include "fs/inode-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

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

int inode_cache_locked(struct inode_table *t, struct inode *i, int fd)
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
			return inode_uncache_locked(t, old);
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
				fd = inode_uncache_locked(t, i);
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

int inode_table_allow(const struct inode_table *t, int fd)
{
	if (fd < 0 || !t->fd_limit || fd < t->fd_limit)
		return fd;
	(void)close(fd); /* nothing was written to it */
	errno = EMFILE;
	return -1;
}

/* openat(2), trading cached directories for room in the descriptor table. */
int inode_open_trimming(struct inode_table *t, int dir_fd, const char *name, int flags)
{
	int fd = inode_table_allow(t, openat(dir_fd, name, flags));

	/* More than once: others may have taken what was freed. */
	for (int i = 0; i < 3 && fd < 0 && (errno == EMFILE || errno == ENFILE); i++)
		if (inode_table_trim(t))
			fd = inode_table_allow(t, openat(dir_fd, name, flags));
	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		inode_table_starved(t);
	return fd < 0 ? -errno : fd;
}

/* Opens name in dir_fd as O_PATH if it is i. */
static int open_checked(struct inode_table *t, struct inode *i, int dir_fd, const char *name,
	int *ret_fd, struct statx *ret_stx)
{
	autoclose int fd = inode_open_trimming(t, dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
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
		fd = inode_cache_locked(t, dir, fd);
	inode_unref_locked(t, parent, &dead);
	inode_unref_locked(t, dir, &dead);
	pthread_mutex_unlock(&t->lock);
	if (fd >= 0)
		(void)close(fd); /* O_PATH: nothing to lose */
	inode_free_chain(t, dead);
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
	return inode_open_trimming(t, AT_FDCWD, link, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
}

/* Opens a regular file or directory by its name at once, instead of through an O_PATH descriptor.
 */
static int open_by_name(struct inode_table *t, struct inode *i, const struct place *p, int flags)
{
	struct statx stx;
	autoclose int fd = inode_open_trimming(
		t, p->fd, p->name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	r = inode_statx(fd, "", AT_EMPTY_PATH, &stx);
	if (r < 0)
		return r;
	return inode_is(i, &stx) ? steal_fd(&fd) : -ESTALE;
}

/* Somebody has a lease on it, fcntl(2), and is told; the open waits until he lets go. */
static int open_patiently(struct inode_table *t, struct inode *i, const struct place *p, int flags)
{
	autoclose int fd = -1;
	struct statx stx;
	int r = open_checked(t, i, p->fd, p->name, &fd, &stx);

	return r < 0 ? r : reopen(t, fd, flags);
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
			if (fd == -EAGAIN)
				fd = open_patiently(t, i, &p, flags);
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
		bool own;
		int r;

		r = place_find(t, i, &p);
		if (r < 0)
			return r;
		own = !p.name;
		if (p.name)
			r = inode_statx(p.fd, p.name, AT_SYMLINK_NOFOLLOW, ret);
		else
			r = inode_statx(p.fd, "", AT_EMPTY_PATH, ret);
		place_leave(t, i, &p);
		/* Its own descriptor is i, though overlayfs may have changed its birth time. */
		if (r == 0 && (own || inode_is(i, ret)))
			return 0;
		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			return r;
		if (!names_moved(t, p.serial))
			return -ESTALE;
	}
}
