/* SPDX-License-Identifier: MIT */
#include "fs/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/timespec.h"
#include "fs/end.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/leftover.h"
#include "fs/passthrough.h"

/* A truncation does not wait for readers that keep coming. */
static void init_io_lock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int file_get(struct fs *fs, struct inode *inode, struct file **ret)
{
	struct file *fresh = calloc(1, sizeof(*fresh)), *f;

	if (!fresh)
		return -ENOMEM;
	*fresh = (struct file){.inode = inode,
		.fd_read = -1,
		.fd_write = -1,
		.refs = 1,
		.declared = RULE_NONE,
		.hidden_from = RULE_NONE,
		.wd = -1};
	pthread_mutex_init(&fresh->setup, NULL);
	init_io_lock(&fresh->io);
	list_init(&fresh->handles);
	list_init(&fresh->waiters);
	list_init(&fresh->by_wd);
	list_init(&fresh->timed);
	list_init(&fresh->lingering);
	list_init(&fresh->completing);
	list_init(&fresh->writing_out);
	list_init(&fresh->on_all);

	pthread_mutex_lock(&fs->files_lock);
	f = inode->file;
	if (f)
		f->refs++;
	else
		__atomic_store_n(&inode->file, fresh, __ATOMIC_RELAXED); /* inode_is_open() */
	if (!f)
		list_add_tail(&fs->files, &fresh->on_all);
	pthread_mutex_unlock(&fs->files_lock);
	if (f)
		free(fresh);
	else
		inode_ref(&fs->inodes, inode);
	*ret = f ? f : fresh;
	return 0;
}

struct file *file_if_open(struct fs *fs, struct inode *inode)
{
	SCOPED_LOCK(&fs->files_lock);
	if (!inode->file || file_fd(inode->file) < 0)
		return NULL;
	return file_ref_locked(inode->file);
}

int file_stat(struct fs *fs, struct inode *i, struct statx *ret)
{
	int r = inode_stat(&fs->inodes, i, ret);
	struct file *f = r == -ESTALE ? file_if_open(fs, i) : NULL;

	if (!f)
		return r;
	r = inode_statx(file_fd(f), "", AT_EMPTY_PATH, ret);
	file_put(fs, f);
	return r;
}

int file_reach(struct fs *fs, struct inode *i, int *ret_fd)
{
	int r = inode_open(&fs->inodes, i, O_PATH | O_NOFOLLOW, ret_fd), fd;
	struct file *f = r == -ESTALE ? file_if_open(fs, i) : NULL;

	if (!f)
		return r;
	fd = inode_table_allow(&fs->inodes, fcntl(file_fd(f), F_DUPFD_CLOEXEC, 0));
	r = fd < 0 ? -errno : 0;
	if (r == 0)
		*ret_fd = fd;
	file_put(fs, f);
	return r;
}

struct file *file_ref_locked(struct file *f)
{
	f->refs++;
	return f;
}

void file_put(struct fs *fs, struct file *f)
{
	pthread_mutex_lock(&fs->files_lock);
	if (--f->refs) {
		pthread_mutex_unlock(&fs->files_lock);
		return;
	}
	__atomic_store_n(&f->inode->file, NULL, __ATOMIC_RELAXED); /* inode_is_open() */
	f->inode->mapped = false;
	list_del(&f->on_all);
	watch_disarm_locked(fs, f);
	pthread_mutex_unlock(&fs->files_lock);

	if (f->backing_id > 0)
		passthrough_unregister(fs, f->backing_id);
	if (f->fd_write >= 0 && f->fd_write != f->fd_read)
		(void)close(f->fd_write); /* every write was answered with its own result */
	if (f->fd_read >= 0)
		(void)close(f->fd_read); /* read only, or as above */
	ranges_done(&f->unwritten);
	pthread_rwlock_destroy(&f->io);
	pthread_mutex_destroy(&f->setup);
	inode_unref(&fs->inodes, f->inode);
	free(f);
}

int file_open_descriptors(struct fs *fs, struct file *f, bool read, bool write, int given)
{
	autoclose int fd = given;
	int r = 0;

	if (fd < 0 && write && f->fd_write < 0) {
		r = inode_open(&fs->inodes, f->inode, O_RDWR, &fd);
		if (r == -EPERM) /* chattr +a */
			r = inode_open(&fs->inodes, f->inode, O_RDWR | O_APPEND, &fd);
		if (r == -EACCES) { /* an unprivileged daemon, a file of mode 0200 */
			r = inode_open(&fs->inodes, f->inode, O_WRONLY, &fd);
			if (r == 0)
				f->fd_write = steal_fd(&fd);
		}
	} else if (fd < 0 && read && f->fd_read < 0) {
		r = inode_open(&fs->inodes, f->inode, O_RDONLY, &fd);
		if (r == 0)
			f->fd_read = steal_fd(&fd);
	}
	if (r < 0 || fd < 0)
		return r;
	/* It is open for both. */
	if (f->fd_write >= 0 && f->fd_read >= 0)
		return 0;
	if (f->fd_write < 0)
		f->fd_write = fd;
	if (f->fd_read < 0)
		f->fd_read = fd;
	(void)steal_fd(&fd); /* the file's now */
	return 0;
}

void file_decide_path(struct fs *fs, struct file *f, fuse_req_t req)
{
	if (f->path_decided)
		return;
	f->path_decided = true;
	if (fs->passthrough && file_fd(f) >= 0)
		f->backing_id = passthrough_register(fs, req, file_fd(f));
}

bool file_is_growing(struct fs *fs, struct file *f)
{
	SCOPED_LOCK(&fs->files_lock);
	return f->state == FILE_GROWING;
}

int file_add_handle(
	struct fs *fs, struct file *f, enum handle_kind kind, pid_t opener, struct handle **ret)
{
	struct handle *h = calloc(1, sizeof(*h));
	struct stat st = {0};

	if (!h)
		return -ENOMEM;
	if (fstat(file_fd(f), &st) < 0) {
		free(h);
		return -errno;
	}
	*h = (struct handle){.file = f, .kind = kind, .opener = opener, .cut = RULE_NONE};
	h->told = (uint64_t)st.st_size;
	h->losses = f->losses;
	end_recall_open(fs, f);
	if (kind == HANDLE_WRITER)
		end_writer_comes(fs, f);
	pthread_mutex_lock(&fs->files_lock);
	if (kind == HANDLE_WRITER && f->writers++ == 0)
		f->end = (uint64_t)st.st_size;
	h->was_growing = f->state != FILE_COMPLETE;
	h->cuts = f->cuts;
	list_add_tail(&f->handles, &h->on_file);
	f->refs++;
	pthread_mutex_unlock(&fs->files_lock);
	*ret = h;
	return 0;
}

void file_remove_handle(struct fs *fs, struct handle *h)
{
	struct file *f = h->file;
	struct fuse_pollhandle *ph;
	bool ended = false;

	if (h->kind == HANDLE_WRITER) {
		pthread_mutex_lock(&f->setup);
		ended = end_writer_goes(fs, h);
		pthread_mutex_unlock(&f->setup);
	}
	pthread_mutex_lock(&fs->files_lock);
	list_del(&h->on_file);
	ph = steal_ptr(&h->ph);
	if (ph)
		f->n_polled--;
	pthread_mutex_unlock(&fs->files_lock);
	if (ph)
		fuse_pollhandle_destroy(ph);
	free(h);
	if (ended) {
		hold_wake(fs, f);
		leftover_retry(fs);
	}
	file_put(fs, f);
}

void file_note_told(struct fs *fs, struct inode *i, const struct statx *stx)
{
	SCOPED_LOCK(&fs->files_lock);
	if (stx->stx_size)
		i->size_told = true;
}

struct timespec file_written_locked(const struct file *f, const struct stat *st)
{
	return same_time(&st->st_mtim, &f->retimed) ? f->written : st->st_mtim;
}

void file_retimed_locked(struct file *f, const struct stat *before, const struct stat *after)
{
	f->written = file_written_locked(f, before);
	f->retimed = after->st_mtim;
}

void file_cut(struct fs *fs, struct file *f, uint64_t offset)
{
	SCOPED_LOCK(&fs->files_lock);
	f->inode->size_told &= offset > 0;
	list_for_each (it, &f->handles) {
		struct handle *h = list_entry(it, struct handle, on_file);

		if (h->delivered > offset && (h->cut == RULE_NONE || h->cut > offset))
			h->cut = offset;
		if (h->told > offset)
			h->told = offset;
		if (h->shown > offset)
			h->shown = 0;
	}
	if (f->end > offset)
		f->end = offset;
	if (f->examined > offset)
		f->examined = offset;
	if (f->edge_told > offset) {
		f->edge_told = offset;
		f->cuts++;
	}
	(void)ranges_remove(&f->unwritten, offset, UINT64_MAX); /* -ENOMEM: holds too long */
}

int file_sync(struct file *f, struct handle *h, bool data_only)
{
	int r = (data_only ? fdatasync(file_fd(f)) : fsync(file_fd(f))) < 0 ? -errno : 0;

	if (r < 0) {
		f->lost |= h != NULL;
		f->loss = r;
		f->losses++;
	}
	if (h && atomic_exchange(&h->losses, f->losses) != f->losses)
		r = f->loss;
	return r;
}

void file_begin_change(struct fs *fs, struct file *f)
{
	pthread_mutex_lock(&fs->files_lock);
	f->n_changing++;
	pthread_mutex_unlock(&fs->files_lock);
	pthread_rwlock_wrlock(&f->io);
}

void file_end_change(struct fs *fs, struct file *f)
{
	pthread_rwlock_unlock(&f->io);
	SCOPED_LOCK(&fs->files_lock);
	f->n_changing--;
}

/* More was written than declared: that is to be known before it is cut. */
static void note_overrun(struct fs *fs, struct file *f, uint64_t size)
{
	SCOPED_LOCK(&fs->files_lock);
	end_check_declared_locked(f, size);
}

int file_truncate(struct fs *fs, struct file *f, uint64_t size)
{
	struct stat st;
	int r = 0;

	file_begin_change(fs, f);
	if (fstat(f->fd_write, &st) < 0)
		r = -errno;
	else
		note_overrun(fs, f, (uint64_t)st.st_size);
	if (r == 0 && size < (uint64_t)st.st_size)
		r = holes_before_cut(fs, f, size);
	if (r == 0 && ftruncate(f->fd_write, (off_t)size) < 0)
		r = -errno;
	if (r < 0) {
		/* nothing was cut */
	} else if (size < (uint64_t)st.st_size) {
		file_cut(fs, f, size);
		r = holes_after_cut(fs, f, size);
	} else if (size > (uint64_t)st.st_size) {
		r = holes_note_grown(fs, f, (uint64_t)st.st_size, size);
		SCOPED_LOCK(&fs->files_lock);
		f->end = size;
	}
	file_end_change(fs, f);
	return r;
}
