/* SPDX-License-Identifier: MIT */
#include "fs/leftover.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"

struct leftover {
	struct list on_all;  /* fs->leftovers; the one that was tried last is last */
	struct inode *inode; /* referenced */
};

/* Whether it is new. */
static bool remember(struct fs *fs, struct inode *i)
{
	struct leftover *fresh = malloc(sizeof(*fresh));

	SCOPED_LOCK(&fs->files_lock);
	if (!fresh || i->marker_left) {
		free(fresh);
		return false;
	}
	i->marker_left = true;
	fresh->inode = i;
	inode_ref(&fs->inodes, i);
	list_add_tail(&fs->leftovers, &fresh->on_all);
	return true;
}

void leftover_add(struct fs *fs, struct inode *i, int r)
{
	char path[PATH_MAX];

	if (!remember(fs, i))
		return;
	if (inode_path(&fs->inodes, i, path, sizeof(path)) < 0)
		snprintf(path, sizeof(path), "a file"); /* another name of it was removed */
	log_warn("the marker of %s, which is complete, cannot be removed (%s): it will "
		 "look aborted after a restart, unless that succeeds later",
		path, strerror(-r));
}

void leftover_drop(struct fs *fs, struct inode *i)
{
	SCOPED_LOCK(&fs->files_lock);
	if (!i->marker_left)
		return;
	i->marker_left = false;
	for (struct list *it = fs->leftovers.prev; it != &fs->leftovers; it = it->prev) {
		struct leftover *l = list_entry(it, struct leftover, on_all);

		if (l->inode != i)
			continue;
		list_del(&l->on_all);
		free(l);
		inode_unref(&fs->inodes, i); /* the caller has another reference */
		return;
	}
}

/* The one that was tried longest ago, with a reference; NULL if there is none. */
static struct inode *take_next(struct fs *fs)
{
	struct leftover *l;

	SCOPED_LOCK(&fs->files_lock);
	if (list_is_empty(&fs->leftovers))
		return NULL;
	l = list_entry(fs->leftovers.next, struct leftover, on_all);
	list_move_tail(&fs->leftovers, &l->on_all);
	inode_ref(&fs->inodes, l->inode);
	return l->inode;
}

/* Whoever has its setup lock now may be waiting for the store: then it is another time's turn. */
static void retry(struct fs *fs, struct inode *i)
{
	struct file *f;
	int r = file_get(fs, i, &f);

	if (r < 0)
		return;
	if (pthread_mutex_trylock(&f->setup) == 0) {
		r = file_open_descriptors(fs, f, true, false, -1);
		if (r == 0)
			end_recall_open(fs, f);
		if (r == 0 && f->state == FILE_COMPLETE) /* whoever writes it needs the marker */
			end_unmark(fs, f);
		else if (r == -ESTALE)
			leftover_drop(fs, i); /* it was taken away in the store */
		pthread_mutex_unlock(&f->setup);
	}
	file_put(fs, f);
}

void leftover_retry(struct fs *fs)
{
	struct inode *i = take_next(fs);

	if (!i)
		return;
	retry(fs, i);
	inode_unref(&fs->inodes, i);
}

void leftover_retry_all(struct fs *fs)
{
	struct inode *i;

	while ((i = take_next(fs))) {
		retry(fs, i);
		leftover_drop(fs, i);
		inode_unref(&fs->inodes, i);
	}
}
