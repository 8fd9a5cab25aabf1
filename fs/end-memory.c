/* SPDX-License-Identifier: MIT */
#include "fs/end-memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/invalidate.h"

/* True: the caller drops a reference to i, which it knows not to be the last, or without the lock.
 */
static bool forget_locked(struct inode *i)
{
	bool kept = i->aborted && i->aborted->kept;

	if (!i->aborted)
		return false;
	list_del(&i->aborted->on_all);
	free(steal_ptr(&i->aborted));
	return kept;
}

void end_forget(void *data, struct inode *i)
{
	struct fs *fs = data;

	SCOPED_LOCK(&fs->files_lock);
	(void)forget_locked(i); /* nobody has a reference */
}

void end_forget_of_file_locked(struct fs *fs, struct file *f)
{
	f->inode->end_known = true;
	if (forget_locked(f->inode))
		inode_unref(&fs->inodes, f->inode); /* f has another */
}

void end_remember_locked(struct fs *fs, struct inode *i, bool found, bool keep, uint64_t declared,
	const char *reason)
{
	struct aborted *a = i->aborted ? i->aborted : calloc(1, sizeof(*a));

	if (!a)
		return;
	if (!i->aborted)
		list_add_tail(&fs->aborted, &a->on_all);
	i->aborted = a;
	i->end_known |= !found;
	a->inode = i;
	a->declared = declared;
	a->found = found;
	if (keep && !a->kept) {
		a->kept = true;
		inode_ref(&fs->inodes, i);
	}
	snprintf(a->reason, sizeof(a->reason), "%s", reason);
}

/* Whether r, of marker_read(), says if there is a marker. */
static bool is_told(int r)
{
	return r == 0 || r == -ENODATA || r == -EOPNOTSUPP;
}

/* What a marker on a file that nobody writes says. */
static void believe_locked(struct fs *fs, struct inode *i, const struct marker *m)
{
	const char *reason = "the daemon or the machine stopped while it was being written";

	end_remember_locked(fs, i, true, false, m->declared, m->aborted ? m->reason : reason);
}

void end_recall(struct fs *fs, struct inode *i, int dir_fd, const char *name)
{
	struct marker m;
	bool known;
	int r;

	if (i->type != S_IFREG)
		return;
	pthread_mutex_lock(&fs->files_lock);
	known = i->end_known || i->file;
	pthread_mutex_unlock(&fs->files_lock);
	if (known)
		return;
	r = marker_read_at(dir_fd, name, &m);
	SCOPED_LOCK(&fs->files_lock);
	if (i->end_known || i->file) /* opened meanwhile: that knows better */
		return;
	i->end_known = is_told(r); /* or asked again when it is opened */
	if (r == 0)
		believe_locked(fs, i, &m);
}

void end_is_new(struct fs *fs, struct inode *i)
{
	SCOPED_LOCK(&fs->files_lock);
	i->end_known = true;
}

/* Whether the store is to be asked again: it was aborted, and nobody here has undone that. */
static bool is_doubtful_locked(const struct inode *i)
{
	const struct file *f = i->file;

	return i->aborted && i->aborted->found && !(f && f->writers);
}

/* Of a file that is open. What cannot be read may say that it was cut off. */
static int read_marker(int fd, struct marker *ret, bool *ret_told)
{
	int r = marker_read(fd, ret);

	*ret_told = is_told(r);
	if (*ret_told)
		return r;
	*ret = (struct marker){.aborted = true, .declared = RULE_NONE};
	snprintf(ret->reason, sizeof(ret->reason), "its marker cannot be read: %s", strerror(-r));
	return 0;
}

void end_recall_open(struct fs *fs, struct file *f)
{
	struct inode *i = f->inode;
	struct marker m;
	int r = -ENODATA;
	bool known, doubtful, ended, told = true;

	pthread_mutex_lock(&fs->files_lock);
	known = i->end_known;
	doubtful = is_doubtful_locked(i);
	pthread_mutex_unlock(&fs->files_lock);
	if ((f->recalled && !doubtful) || file_fd(f) < 0)
		return;
	if (!known || doubtful)
		r = read_marker(file_fd(f), &m, &told);
	ended = doubtful && r == -ENODATA;
	pthread_mutex_lock(&fs->files_lock);
	f->recalled = true;
	f->marked |= i->marker_left;
	if (r == 0 && !i->end_known)
		believe_locked(fs, i, &m);
	i->end_known |= told;
	if (ended) {
		f->marked = false;
		f->state = FILE_COMPLETE;
		f->declared = RULE_NONE;
		end_forget_of_file_locked(fs, f);
	} else if (i->aborted && f->state == FILE_COMPLETE) {
		f->marked = !i->aborted->kept;
		f->state = FILE_ABORTED;
		f->declared = i->aborted->declared;
	}
	pthread_mutex_unlock(&fs->files_lock);
	if (ended)
		invalidate_attributes(fs, f->inode);
}

void end_recall_again(struct fs *fs, struct inode *i)
{
	struct file *f;
	bool doubtful;

	pthread_mutex_lock(&fs->files_lock);
	doubtful = is_doubtful_locked(i) || (!i->end_known && !i->file);
	pthread_mutex_unlock(&fs->files_lock);
	if (!doubtful || i->type != S_IFREG || file_get(fs, i, &f) < 0)
		return;
	if (pthread_mutex_trylock(&f->setup) == 0) {
		if (file_open_descriptors(fs, f, true, false, -1) == 0)
			end_recall_open(fs, f);
		pthread_mutex_unlock(&f->setup);
	}
	file_put(fs, f);
}
