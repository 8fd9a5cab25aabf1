/* SPDX-License-Identifier: MIT */
/*
 * The kernel decides per inode how its data moves (fs/fuse/iomode.c): from the first passthrough
 * open to the last close every open of it must be passthrough with the same backing id, and while
 * a handle uses the page cache none may be. So struct file decides once, for all its handles.
 *
 *                      passthrough                  daemon
 *   writer             passthrough                  direct I/O
 *   writer, O_DIRECT   passthrough + direct I/O     direct I/O
 *   follower           passthrough + direct I/O     direct I/O
 *   plain, growing     passthrough                  direct I/O
 *   plain, complete    passthrough                  page cache, kept
 *
 * Direct I/O makes the kernel ask for what lies behind i_size; with the passthrough flag beside it,
 * reads still come here and mmap goes to the store. Writers through the daemon use direct I/O so
 * that the page cache holds nothing that sendfile(2) could take for the whole. With passthrough the
 * flags that fcntl(2) takes away later stay those of the open (fs/fuse/passthrough.c): dd could not
 * write a last block that is not aligned, so writers with O_DIRECT come here as well.
 */
#include "fs/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "fs/creds.h"
#include "fs/end.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/invalidate.h"
#include "fs/passthrough.h"
#include "fs/process.h"
#include "fs/reply.h"
#include "fs/status.h"

enum decision {
	OPEN_NOW,
	OPEN_WAIT,
	OPEN_WAIT_FIRST_BYTE,
	OPEN_TRY,
	OPEN_LOOK_UP,
	OPEN_AGAIN,
	OPEN_DENIED
};

static bool is_writer(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY;
}

/* Who opened f for writing, to be freed; NULL without memory, or if nobody did. */
static pid_t *openers_of(struct fs *fs, struct file *f, size_t *ret_n)
{
	size_t room = 0;
	pid_t *openers;

	*ret_n = 0;
	SCOPED_LOCK(&fs->files_lock);
	list_for_each (it, &f->handles)
		room += list_entry(it, struct handle, on_file)->kind == HANDLE_WRITER;
	openers = calloc(room, sizeof(*openers));
	list_for_each (it, &f->handles) {
		struct handle *h = list_entry(it, struct handle, on_file);

		if (openers && h->kind == HANDLE_WRITER)
			openers[(*ret_n)++] = h->opener;
	}
	return openers;
}

/* Whether the caller's process opened f for writing, too. */
static bool writes_itself(fuse_req_t req, struct file *f)
{
	size_t n;
	autofree pid_t *openers = openers_of(fs_of(req), f, &n);
	pid_t caller = process_of(fuse_req_ctx(req)->pid);

	while (n-- && caller) {
		pid_t opener = process_of(openers[n]);

		if (opener == caller || (openers[n] > 0 && !opener))
			return true; /* or that thread has ended: it may have been */
	}
	return false;
}

/* Whoever was sent back comes again at once, through another lookup or, by /proc/self/fd, without.
 * i: by which file, NULL: by any. */
static bool was_sent_back_locked(struct fs *fs, const struct inode *i, pid_t pid)
{
	for (size_t k = 0; k < SENT_BACK; k++) {
		struct sent_back *s = &fs->sent_back[k];

		if (s->inode && s->pid == pid && (!i || s->inode == i)) {
			*s = (struct sent_back){0};
			return true;
		}
	}
	return false;
}

static void send_back_locked(struct fs *fs, const struct inode *i, pid_t pid)
{
	size_t k = 0;

	while (k < SENT_BACK && fs->sent_back[k].inode)
		k++;
	if (k == SENT_BACK) /* some were killed on the way */
		k = fs->sent_back_next++ % SENT_BACK;
	fs->sent_back[k] = (struct sent_back){i, pid};
}

/*
 * How a follower of f is to be opened. *sent_back: whether it was before, which the kernel takes
 * once; kept while it waits, for the file may have been cut and have become empty again. Who was
 * sent back by another file, that had the name until then, waits a moment instead: the kernel hears
 * of f's size from the write that has just been made. So do those of other pid namespaces, who look
 * all the same.
 */
static enum decision decide_follower(
	fuse_req_t req, struct file *f, const struct fuse_file_info *fi, bool *sent_back)
{
	struct fs *fs = fs_of(req);
	pid_t pid = fuse_req_ctx(req)->pid;
	struct stat st;
	bool empty, told, waits;

	if (fstat(file_fd(f), &st) < 0)
		return OPEN_NOW; /* its reads will say so */
	pthread_mutex_lock(&fs->files_lock);
	empty = st.st_size == 0 || f->hidden_from == 0;
	*sent_back |= was_sent_back_locked(fs, f->inode, pid);
	told = *sent_back || f->inode->size_told;
	waits = !empty && !told && (pid == 0 || was_sent_back_locked(fs, NULL, pid));
	if (!empty && !told && !waits)
		send_back_locked(fs, f->inode, pid);
	pthread_mutex_unlock(&fs->files_lock);
	if (waits) {
		*sent_back = true;
		return OPEN_TRY;
	}
	if (!empty)
		return told ? OPEN_NOW : OPEN_LOOK_UP;
	if ((fi->flags & O_NONBLOCK) || writes_itself(req, f))
		return OPEN_NOW;
	return OPEN_WAIT_FIRST_BYTE;
}

/* Who knows the states and promises of files may read what is there, held by none, by his open
 * neither: O_SYNC has no other meaning for a reader. */
static bool asks_for_plain(const struct fuse_file_info *fi)
{
	const int both = O_NONBLOCK | O_SYNC;

	return (fi->flags & both) == both;
}

/* The kind of an O_RDONLY handle, or that it has to wait or come again. */
static enum decision decide(
	struct fs *fs, struct file *f, const struct fuse_file_info *fi, enum handle_kind *ret)
{
	bool nonblock = (fi->flags & O_NONBLOCK) && fs->opt.nonblock == NONBLOCK_PLAIN;

	SCOPED_LOCK(&fs->files_lock);
	*ret = HANDLE_PLAIN;
	if (f->state == FILE_COMPLETE)
		return OPEN_NOW;
	if (f->state == FILE_ABORTED) {
		*ret = HANDLE_FOLLOWER;
		return fs->opt.aborted == ABORTED_DENY ? OPEN_DENIED : OPEN_NOW;
	}
	if (asks_for_plain(fi))
		return OPEN_NOW;
	switch ((enum opt_hold)fs->opt.hold) {
	case HOLD_NONE:
		break;
	case HOLD_OPEN:
		return nonblock ? OPEN_AGAIN : OPEN_WAIT;
	case HOLD_READ:
		if (!nonblock || f->declared != RULE_NONE)
			*ret = HANDLE_FOLLOWER;
		break;
	}
	return OPEN_NOW;
}

/*
 * Whether it would wait, or look up again, and is the kernel's open of a growing file for an event
 * of fanotify(7): the listener's read(2) is to have the event, and a writer may be waiting for what
 * the listener says to it. -EAGAIN: it cannot be told yet.
 */
static int opens_for_listener(
	fuse_req_t req, struct file *f, enum decision decision, enum handle_kind kind)
{
	if (decision != OPEN_WAIT && decision != OPEN_AGAIN && kind != HANDLE_FOLLOWER)
		return 0;
	return file_is_growing(fs_of(req), f) ? process_reads_events(fuse_req_ctx(req)->pid) : 0;
}

/*
 * The same, with what needs to know the caller. The kernel itself opens a file to ask for its
 * flags (fs/fuse/ioctl.c, fuse_priv_ioctl_prepare()), with none of its own, where open(2) has
 * O_LARGEFILE: it does not look up again, and whoever writes must not wait for himself.
 */
static enum decision decide_reader(fuse_req_t req, struct file *f, const struct fuse_file_info *fi,
	enum handle_kind *ret, bool *sent_back)
{
	struct fs *fs = fs_of(req);
	enum decision decision = decide(fs, f, fi, ret);
	int for_listener;

	if (fi->flags == O_RDONLY)
		return decision == OPEN_WAIT && writes_itself(req, f) ? OPEN_NOW : decision;
	if (fi->flags & O_TRUNC) /* it is to be empty, and the kernel knows */
		return decision;
	for_listener = opens_for_listener(req, f, decision, *ret);
	if (for_listener < 0)
		return OPEN_TRY;
	if (for_listener) {
		*ret = HANDLE_PLAIN;
		return OPEN_NOW;
	}
	if (*ret == HANDLE_FOLLOWER && decision == OPEN_NOW && file_is_growing(fs, f))
		return decide_follower(req, f, fi, sent_back);
	return decision;
}

/* Tells the kernel how the handle moves its data. */
static void choose_path(struct fs *fs, const struct handle *h, struct fuse_file_info *fi)
{
	const struct file *f = h->file;

	fi->noflush = h->kind != HANDLE_WRITER || fs->opt.abort_on == ABORT_ON_NEVER;
	if (file_is_passthrough(f)) {
		passthrough_set(fi, f->backing_id);
		if ((fi->flags & O_ACCMODE) == O_RDWR)
			f->inode->mapped = true;
		fi->direct_io =
			h->kind == HANDLE_FOLLOWER || (is_writer(fi) && (fi->flags & O_DIRECT));
	} else if (h->kind == HANDLE_PLAIN && !h->was_growing) {
		fi->keep_cache = 1; /* the kernel drops it when the mtime changes */
	} else {
		fi->direct_io = 1;
	}
}

/* O_TRUNC. Setup lock held. */
static int begin_anew(fuse_req_t req, const struct handle *h)
{
	struct fs *fs = fs_of(req);
	struct file *f = h->file;
	struct creds creds;
	struct stat st = {0};
	int r;

	(void)fstat(f->fd_write, &st); /* then the truncation fails as well */
	creds_take_for_data(req, &creds);
	r = file_truncate(fs, f, 0);
	creds_give_back(&creds);
	if (r == 0)
		end_begin_anew(fs, f, h, st.st_size);
	return r;
}

/*
 * Makes the handle for a file whose descriptors are open. Setup lock held. After an error *ret, if
 * not NULL, is to be removed without it.
 */
static int make_handle(fuse_req_t req, struct file *f, enum handle_kind kind,
	struct fuse_file_info *fi, struct handle **ret)
{
	struct fs *fs = fs_of(req);
	int r = file_add_handle(fs, f, kind, fuse_req_ctx(req)->pid, ret);

	if (r < 0)
		return r;
	(*ret)->nonblock = fi->flags & O_NONBLOCK;
	(*ret)->never_held = asks_for_plain(fi);
	if (fi->flags & O_TRUNC)
		r = begin_anew(req, *ret);
	if (r < 0)
		return r;
	choose_path(fs, *ret, fi);
	fi->fh = (uint64_t)(uintptr_t)*ret;
	return 0;
}

/* h did not come to be used. */
static void take_back_handle(struct fs *fs, struct handle *h, const struct end_before *before)
{
	struct file *f = h->file;

	pthread_mutex_lock(&f->setup);
	end_take_back(fs, h, before);
	pthread_mutex_unlock(&f->setup);
	hold_wake(fs, f);
	file_remove_handle(fs, h);
}

static int wait_to_open(fuse_req_t req, struct file *f, const struct fuse_file_info *fi,
	enum decision why, bool sent_back)
{
	struct fs *fs = fs_of(req);
	autofree struct fuse_file_info *copy = malloc(sizeof(*copy));
	struct waiter *w = hold_new(req, f, NULL);

	if (!w || !copy) {
		free(w);
		return -ENOMEM;
	}
	*copy = *fi;
	w->fi = steal_ptr(&copy);
	w->first_byte = why == OPEN_WAIT_FIRST_BYTE;
	w->tries = why == OPEN_TRY;
	w->sent_back = sent_back;
	pthread_mutex_lock(&fs->files_lock);
	file_ref_locked(f);
	pthread_mutex_unlock(&fs->files_lock);
	hold_request(fs, w);
	return 0;
}

/* With passthrough the kernel finds out only after our answer, when the file grows or is cut. */
static bool lacks_direct_io(const struct file *f)
{
	char path[32];
	autoclose int fd = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd(f));
	fd = open(path, O_RDONLY | O_DIRECT | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 && errno == EINVAL;
}

int open_check_flags(const struct file *f, int flags)
{
	struct statx stx;
	int r;

	if ((flags & O_DIRECT) && lacks_direct_io(f))
		return -EINVAL;
	if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC))
		return 0;
	r = inode_statx(file_fd(f), "", AT_EMPTY_PATH, &stx);
	if (r < 0)
		return r;
	if (stx.stx_attributes & STATX_ATTR_IMMUTABLE)
		return -EPERM;
	if (!(stx.stx_attributes & STATX_ATTR_APPEND))
		return 0;
	return (flags & O_APPEND) && !(flags & O_TRUNC) ? 0 : -EPERM;
}

/*
 * Another open may have it for as long as the store keeps that one waiting, for its marker or its
 * truncation. Whoever waits here cannot be killed, and keeps a thread from others: so a reader does
 * not for long, and one who is not to be held comes again by himself. A writer would only be next
 * to wait for the store.
 */
static bool lock_setup(struct file *f, bool writes, bool resumed, bool comes_again)
{
	struct timespec until;

	if (writes)
		return pthread_mutex_lock(&f->setup) == 0;
	if (pthread_mutex_trylock(&f->setup) == 0)
		return true;
	if (resumed)
		return false;
	until = clock_real_in_ms(comes_again ? 1 : 20);
	return pthread_mutex_timedlock(&f->setup, &until) == 0;
}

/* Opens f for req, or has it wait; resumed: not for the first time. Errors are replied. */
static void open_file(
	fuse_req_t req, struct file *f, struct fuse_file_info *fi, bool sent_back, bool resumed)
{
	struct fs *fs = fs_of(req);
	enum handle_kind kind = HANDLE_WRITER;
	enum decision decision = OPEN_NOW;
	struct end_before before;
	struct handle *h = NULL;
	const bool writes = is_writer(fi) || (fi->flags & O_TRUNC),
		   comes_again = asks_for_plain(fi);
	int r;

	if (!lock_setup(f, writes, resumed, comes_again)) {
		r = comes_again ? -EAGAIN : wait_to_open(req, f, fi, OPEN_TRY, sent_back);
		if (r < 0)
			reply_error(req, r);
		return;
	}
	r = file_open_descriptors(fs, f, (fi->flags & O_ACCMODE) != O_WRONLY, writes, -1);
	if (r == 0)
		r = open_check_flags(f, fi->flags);
	if (r == 0) {
		file_decide_path(fs, f, req);
		end_recall_open(fs, f);
		end_look(fs, f, &before);
		if (!is_writer(fi))
			decision = decide_reader(req, f, fi, &kind, &sent_back);
		if (decision == OPEN_NOW)
			r = make_handle(req, f, kind, fi, &h);
		else if (decision == OPEN_AGAIN)
			r = -EAGAIN;
		else if (decision == OPEN_DENIED)
			r = -EIO;
		else if (decision == OPEN_LOOK_UP)
			r = -ESTALE;
	}
	if (r < 0 && h)
		end_take_back(fs, h, &before);
	pthread_mutex_unlock(&f->setup);
	if (fi->flags & O_TRUNC)
		hold_wake(fs, f);
	if (r == 0 && (decision == OPEN_WAIT || decision == OPEN_WAIT_FIRST_BYTE ||
			      decision == OPEN_TRY)) {
		r = wait_to_open(req, f, fi, decision, sent_back);
		if (r == 0)
			return;
	}
	if (r < 0 && h)
		file_remove_handle(fs, h);
	if (r == 0 && h && f->inode->mapped)
		invalidate_attributes(fs, f->inode); /* those that it was told to keep */
	if (r < 0)
		reply_error(req, r);
	else if (reply_open(req, fi) < 0)
		take_back_handle(fs, h, &before);
}

void open_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct file *f;
	int r;

	if (ino == fs_ino(fs, &fs->status_file)) {
		status_open(req, fi);
		return;
	}
	r = file_get(fs, fs_inode(fs, ino), &f);
	if (r < 0) {
		reply_error(req, r);
		return;
	}
	open_file(req, f, fi, false, false);
	file_put(fs, f);
}

void open_resume(struct fs *fs, struct waiter *w)
{
	open_file(w->req, w->file, w->fi, w->sent_back, true);
}

/* A file that has just been made: fd is open on it, i is referenced for the kernel. */
static void open_new(
	fuse_req_t req, struct inode *i, int fd, const struct statx *stx, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	enum handle_kind kind = is_writer(fi) ? HANDLE_WRITER : HANDLE_PLAIN;
	struct handle *h = NULL;
	struct file *f;
	int r = file_get(fs, i, &f);

	fi->flags &= ~O_TRUNC; /* it is empty, and would lose its set-id bits */
	end_is_new(fs, i);
	if (r < 0) {
		(void)close(fd); /* nothing was written yet */
	} else {
		pthread_mutex_lock(&f->setup);
		r = file_open_descriptors(fs, f, true, true, fd);
		if (r == 0 && (fi->flags & O_DIRECT) && lacks_direct_io(f))
			r = -EINVAL;
		if (r == 0) {
			file_decide_path(fs, f, req);
			r = make_handle(req, f, kind, fi, &h);
		}
		pthread_mutex_unlock(&f->setup);
		if (r < 0 && h)
			file_remove_handle(fs, h);
		file_put(fs, f);
	}
	if (r < 0) {
		inode_forget(&fs->inodes, i, 1);
		reply_error(req, r);
	} else if (reply_create(req, i, stx, fi) < 0) {
		file_remove_handle(fs, h);
	}
}

/* Before a file is made, since it stays when there is no descriptor for it. -1 and errno. */
static int find_room(const struct inode_table *t, int dir_fd)
{
	int fd = inode_table_allow(t, fcntl(dir_fd, F_DUPFD_CLOEXEC, 0));

	return fd < 0 ? -1 : close(fd); /* 0: a directory's */
}

/* Makes a file in dir_fd: name NULL, one without a name (O_TMPFILE). A descriptor, or -errno. */
static int make_file(
	struct inode_table *t, int dir_fd, const char *name, int open_flags, mode_t mode)
{
	/*
	 * Never an existing file: this is done with all capabilities, and the kernel, which took
	 * the name for free, has checked nobody's access to what it is now.
	 */
	int flags = name ? O_CREAT | O_EXCL | O_NOFOLLOW : O_TMPFILE | (open_flags & O_EXCL);
	int fd, tries = 4; /* others may take what was freed */

	do {
		fd = find_room(t, dir_fd);
		if (fd >= 0)
			fd = openat(dir_fd, name ? name : ".", flags | O_RDWR | O_CLOEXEC, mode);
	} while (fd < 0 && (errno == EMFILE || errno == ENFILE) && --tries && inode_table_trim(t));
	if (fd >= 0)
		return fd;
	if (errno == EMFILE || errno == ENFILE)
		inode_table_starved(t);
	if (errno == EEXIST && !(open_flags & O_EXCL))
		return -ESTALE; /* made meanwhile: the kernel looks it up and checks access */
	return -errno;
}

/* CREATE, or with name NULL TMPFILE. */
static void create(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode,
	struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *parent = fs_inode(fs, parent_ino), *i;
	struct creds creds;
	struct statx stx;
	int dir_fd, fd, r = status_owns_name(fs, parent, name) ? -EPERM : 0;

	if (r == 0)
		r = inode_acquire_dir(&fs->inodes, parent, &dir_fd);
	if (r < 0) {
		reply_error(req, r);
		return;
	}
	creds_take(req, mode, &creds);
	fd = make_file(&fs->inodes, dir_fd, name, fi->flags, mode);
	creds_give_back(&creds);
	inode_release_dir(&fs->inodes, parent);
	if (fd < 0) {
		reply_error(req, fd);
		return;
	}
	r = inode_statx(fd, "", AT_EMPTY_PATH, &stx);
	if (r == 0 && name)
		r = inode_remember(&fs->inodes, parent, name, &stx, &i);
	else if (r == 0)
		r = inode_remember_unnamed(&fs->inodes, fd, &stx, &i);
	if (r == 0) {
		open_new(req, i, fd, &stx, fi);
		return;
	}
	(void)close(fd); /* nothing was written yet */
	reply_error(req, r);
}

void open_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	create(req, parent, name, mode, fi);
}

void open_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	create(req, parent, NULL, mode, fi);
}

void open_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (ino != fs_ino(fs, &fs->status_file))
		end_judge(fs, (struct handle *)(uintptr_t)fi->fh, fuse_req_ctx(req)->pid);
	reply_error(req, 0);
}

void open_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (ino == fs_ino(fs, &fs->status_file)) {
		status_release(req, fi);
		return;
	}
	file_remove_handle(fs, (struct handle *)(uintptr_t)fi->fh);
	reply_error(req, 0);
}
