/* SPDX-License-Identifier: MIT */
/* Names that go and move. */
#include "fs/inode-table.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

void inode_name_grip(struct inode_table *t, int dir_fd, const char *name, struct inode_grip *ret)
{
	struct statx stx;
	int fd = inode_open_trimming(t, dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	*ret = (struct inode_grip){.fd = -1};
	if (fd < 0 || inode_statx(fd, "", AT_EMPTY_PATH, &stx) < 0) {
		if (fd >= 0)
			(void)close(fd); /* O_PATH: nothing to lose */
		return;
	}
	ret->fd = fd;
	pthread_mutex_lock(&t->lock);
	ret->inode = inode_find_locked(t, &stx);
	if (ret->inode)
		ret->inode->refs++;
	pthread_mutex_unlock(&t->lock);
}

void inode_name_let_go(struct inode_table *t, struct inode_grip *grip)
{
	if (grip->fd >= 0)
		(void)close(grip->fd); /* O_PATH: nothing to lose */
	if (grip->inode)
		inode_unref(t, grip->inode);
}

static bool inode_is_open(const struct inode *i)
{
	return __atomic_load_n(&i->file, __ATOMIC_RELAXED); /* at this moment: no lock */
}

bool inode_name_gone(
	struct inode_table *t, struct inode *parent, const char *name, struct inode_grip *grip)
{
	struct inode *i = grip->inode, *dead = NULL;
	struct statx stx = {.stx_nlink = 0};

	if (!i)
		return false;
	if (i->type != S_IFDIR)
		(void)inode_statx(grip->fd, "", AT_EMPTY_PATH, &stx); /* then it counts as gone */
	pthread_mutex_lock(&t->lock);
	if (i->parent == parent && i->name && !strcmp(i->name, name)) {
		inode_unref_locked(t, i->parent, &dead);
		i->parent = NULL;
		free(steal_ptr(&i->name));
	}
	i->stale = stx.stx_nlink == 0;
	/*
	 * Without any name it is reachable through this descriptor alone. One that has another name
	 * is only cached, it could be one of thousands: ESTALE makes the kernel look that name up.
	 * Unless it is open, when there is no looking up.
	 */
	if (!i->parent && (i->stale || inode_is_open(i))) {
		if (list_is_linked(&i->lru)) {
			list_del(&i->lru);
			t->n_cached--;
		} else if (i->fd < 0) {
			i->fd = steal_fd(&grip->fd);
		}
	} else if (!i->parent) {
		grip->fd = inode_cache_locked(t, i, grip->fd);
	}
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, dead);
	return stx.stx_nlink == 0;
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
	inode_set_name_locked(t, i, parent, name, &copy, &dead);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, dead);
}
