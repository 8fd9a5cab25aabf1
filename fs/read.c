/* SPDX-License-Identifier: MIT */
#include "fs/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/attr.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/holes.h"
#include "fs/invalidate.h"
#include "fs/reply.h"
#include "fs/status.h"

/* From so many bytes on, splicing from the store file beats copying. */
#define SPLICE_MIN 65536
/* Fewer are cheaper to look at than holes are to ask for. */
#define FEW 65536

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void buffer_key_make(void)
{
	pthread_key_create(&buffer_key, free);
}

char *read_buffer(struct fs *fs)
{
	char *b;

	pthread_once(&buffer_once, buffer_key_make);
	b = pthread_getspecific(buffer_key);
	if (!b) {
		b = malloc(fs->request_max);
		pthread_setspecific(buffer_key, b);
	}
	return b;
}

/*
 * The kernel splits a large read(2) and goes on with the next part when one was filled, so that
 * the read would wait for its rest with bytes in hand. A request that may be such a part and would
 * end at the live edge is therefore not filled: a short answer ends the read(2).
 */
static size_t leave_some(struct fs *fs, const struct waiter *w, size_t n)
{
	const size_t page = 4096;

	if (n < w->want || n + page <= fs->request_max || w->page ||
		holes_available(fs, w->file, w->offset + n, 1) > 0)
		return n;
	return n - page;
}

/*
 * pread(2), if page for the page cache, for which a short answer is the end of the file, whoever
 * reads it (fs/fuse/file.c, fuse_short_read()): one that a bad block cuts short is an error, upon
 * which the kernel asks for each page by itself.
 */
static ssize_t read_at(int fd, char *buf, size_t size, off_t offset, bool page)
{
	size_t done = 0;
	ssize_t n;

	do {
		n = pread(fd, buf + done, size - done, offset + (off_t)done);
		done += n > 0 ? (size_t)n : 0;
	} while (page && n > 0 && done < size);
	return n < 0 ? n : (ssize_t)done;
}

static ssize_t fetch(const struct waiter *w, char *buf, ssize_t n)
{
	if (n <= 0)
		return n;
	return read_at(w->file->fd_read, buf, (size_t)n, (off_t)w->offset, w->page);
}

/*
 * Reads n bytes, unless they do not show themselves that they were written. A passthrough writer
 * may be about to fill a gap with them: whoever reads meanwhile can be overtaken, and finds zeros
 * before bytes that come later. Once these are there so are those before.
 */
static bool fetch_proven(
	struct fs *fs, const struct waiter *w, uint64_t changes, char *buf, ssize_t *n)
{
	*n = fetch(w, buf, *n);
	if (*n <= 0)
		return true;
	if (!holes_all_written(fs, w->file, changes, w->offset, buf, (size_t)*n))
		return false;
	if (file_is_passthrough(w->file) && memchr(buf, 0, (size_t)*n))
		*n = fetch(w, buf, *n);
	return true;
}

/*
 * Reads what there is for w; negative: there is an error. Few bytes are read at once and mostly
 * show themselves that they were written. Of others that is found out first, for what was a hole
 * when it was read may be filled by the time one asks.
 */
static ssize_t find_bytes(struct fs *fs, const struct waiter *w, enum file_state state,
	uint64_t changes, uint64_t size, char *buf)
{
	struct file *f = w->file;
	size_t left = size > w->offset ? size - w->offset : 0,
	       want = w->want < left ? w->want : left;
	ssize_t n = (ssize_t)want;

	if (state == FILE_COMPLETE)
		return fetch(w, buf, n);
	if (want < FEW && fetch_proven(fs, w, changes, buf, &n))
		return n;
	return fetch(w, buf, holes_available(fs, f, w->offset, want));
}

/* What was just written, most often: few bytes at the end, without a look at the size. */
static ssize_t find_few(struct fs *fs, const struct waiter *w, uint64_t changes, char *buf)
{
	const ssize_t few = 4096;
	ssize_t n = w->want < few ? w->want : few;

	return fetch_proven(fs, w, changes, buf, &n) && n < few ? n : 0;
}

/* hold=none: what grows is read as if it were complete. A handle that was opened while its file was
 * aborted, for its end to read as EIO, gets here then. Pages of what grows are never given out. */
static bool heeds_growth(const struct fs *fs, const struct waiter *w)
{
	return fs->opt.hold != HOLD_NONE || w->page;
}

/* Looks at the file and asks the rule. io lock held shared. */
static struct rule_verdict look(struct fs *fs, const struct waiter *w, char *buf)
{
	struct file *f = w->file;
	struct rule_input in = {
		.offset = w->offset,
		.want = w->want,
		.nonblock = w->nonblock,
		.page = w->page,
	};
	struct rule_verdict v = {.answer = RULE_FAIL, .error = EIO};
	struct stat st;
	uint64_t size, delivered, changes;
	bool goes_on; /* rather than be held */
	ssize_t n;

	pthread_mutex_lock(&fs->files_lock);
	in.state = f->state; /* before the bytes: an end is believed only if it was there first */
	in.declared = f->declared;
	changes = f->unwritten.changes;
	in.cut = w->handle->cut;
	delivered = w->handle->delivered;
	goes_on = w->handle->never_held ||
		  (w->handle->nonblock && fs->opt.nonblock == NONBLOCK_PLAIN &&
			  w->handle->cuts != f->cuts);
	pthread_mutex_unlock(&fs->files_lock);
	if (in.state == FILE_GROWING && !heeds_growth(fs, w)) {
		in.state = FILE_COMPLETE;
		in.declared = RULE_NONE;
	}

	if (w->offset >= delivered && in.declared == RULE_NONE && !w->page &&
		(n = find_few(fs, w, changes, buf)) > 0) {
		in.available = (size_t)n;
		return rule_read(&in);
	}
	if (fstat(f->fd_read, &st) < 0)
		return v;
	size = (uint64_t)st.st_size;
	n = find_bytes(fs, w, in.state, changes, size, buf);
	if (in.state == FILE_COMPLETE && heeds_growth(fs, w) && file_is_growing(fs, f)) {
		in.state = FILE_GROWING; /* again, and what was found may be a gap of that */
		n = find_bytes(fs, w, in.state, changes, size, buf);
	}
	if (n < 0)
		return v;
	if (w->handle->kind == HANDLE_FOLLOWER && size < delivered && in.cut > size) {
		file_cut(fs, f, size); /* in the store, behind the mount's back */
		in.cut = size;
	}
	in.available = (size_t)n;
	if (n > 0 && in.state == FILE_GROWING && in.declared == RULE_NONE)
		in.available = leave_some(fs, w, (size_t)n);
	v = rule_read(&in);
	/* Whoever asked how far he may read, and chose not to wait, is not made to. */
	if (v.answer == RULE_HOLD && goes_on)
		v = (struct rule_verdict){.answer = RULE_FAIL, .error = EIO};
	return v;
}

static void note_delivered(struct fs *fs, struct handle *h, uint64_t offset, size_t n)
{
	pthread_mutex_lock(&fs->files_lock);
	h->pos = offset + n;
	h->asked = 0;
	if (h->cut != RULE_NONE && offset <= h->cut) { /* it went back and starts over */
		h->cut = RULE_NONE;
		h->delivered = h->pos;
	} else if (h->pos > h->delivered) {
		h->delivered = h->pos;
	}
	pthread_mutex_unlock(&fs->files_lock);
}

static void note_refused(struct fs *fs, const struct waiter *w)
{
	SCOPED_LOCK(&fs->files_lock);
	w->handle->asked = w->want;
	w->handle->pos = w->offset;
}

static bool try_answer(struct fs *fs, const struct waiter *w)
{
	struct rule_verdict v;
	char *buf = read_buffer(fs);

	if (!buf) {
		reply_error(w->req, -ENOMEM);
		return true;
	}
	if (pthread_rwlock_tryrdlock(&w->file->io) != 0)
		return false; /* it is being changed */
	v = look(fs, w, buf);
	if (v.answer == RULE_SERVE && !w->page)
		note_delivered(fs, w->handle, w->offset, v.serve);
	pthread_rwlock_unlock(&w->file->io);
	switch (v.answer) {
	case RULE_SERVE:
		reply_data(w->req, buf, v.serve);
		return true;
	case RULE_END:
		reply_data(w->req, buf, 0);
		return true;
	case RULE_FAIL:
		if (v.error == EAGAIN)
			note_refused(fs, w);
		reply_error(w->req, -v.error);
		return true;
	case RULE_HOLD:
		break;
	}
	return false;
}

/* Answers w unless it has to be held. */
static bool answer(struct fs *fs, const struct waiter *w)
{
	struct page_read page;
	bool done;

	if (!w->page)
		return try_answer(fs, w);
	invalidate_page_begin(fs, &page, w->file, w->offset, w->want);
	done = try_answer(fs, w);
	invalidate_page_end(fs, &page);
	return done;
}

bool read_answer(struct fs *fs, struct waiter *w)
{
	if (answer(fs, w))
		return true;
	hold_request(fs, w);
	return false;
}

/*
 * Whether the file ends before end although more is declared. The kernel fills a page that comes
 * short with zeros and keeps it; it takes i_size back, unless somebody asked for it meanwhile
 * (fs/fuse/file.c, fuse_short_read()), and then it is the declared size that says how much of the
 * page is data.
 */
static bool is_promised(struct fs *fs, struct file *f, uint64_t end)
{
	uint64_t declared;
	struct stat st;

	pthread_mutex_lock(&fs->files_lock);
	declared = f->declared;
	pthread_mutex_unlock(&fs->files_lock);
	if (declared == RULE_NONE)
		return false;
	if (end > declared)
		end = declared;
	return fstat(f->fd_read, &st) == 0 && (uint64_t)st.st_size < end;
}

/* Before an answer for the page cache. A writer has read(2) as well, and is sent there. */
static int check_page(struct fs *fs, const struct handle *h, uint64_t end)
{
	if (!is_promised(fs, h->file, end))
		return 0;
	return h->kind == HANDLE_WRITER ? -EINVAL : -EIO;
}

static void serve_plain(fuse_req_t req, struct handle *h, size_t size, off_t offset, bool page)
{
	char *buf = read_buffer(fs_of(req));
	int fd = h->file->fd_read;
	ssize_t n = -1;

	if (size >= SPLICE_MIN && !page) {
		reply_from_fd(req, fd, offset, size);
		return;
	}
	if (buf)
		n = read_at(fd, buf, size, offset, page);
	if (n < 0)
		reply_error(req, buf ? -errno : -ENOMEM);
	else
		reply_data(req, buf, (size_t)n);
}

/* A plain or writing handle: what is there, and EOF behind it. Reads for read(2) with direct I/O
 * carry FUSE_READ_LOCKOWNER, those for pages do not. */
static void read_plain(fuse_req_t req, struct handle *h, size_t size, off_t offset, bool page)
{
	struct fs *fs = fs_of(req);
	struct page_read reading;
	int r;

	if (!page) {
		serve_plain(req, h, size, offset, false);
		return;
	}
	invalidate_page_begin(fs, &reading, h->file, (uint64_t)offset, size);
	r = check_page(fs, h, (uint64_t)offset + size);
	if (r < 0)
		reply_error(req, r);
	else
		serve_plain(req, h, size, offset, true);
	invalidate_page_end(fs, &reading);
}

static void read_status(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi)
{
	char *buf = read_buffer(fs_of(req));

	if (buf)
		reply_data(req, buf, status_read(fi, buf, size, offset));
	else
		reply_error(req, -ENOMEM);
}

void read_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;
	struct waiter now = {.req = req, .handle = h}, *w;

	if (size > fs->request_max)
		size = fs->request_max;
	if (ino == fs_ino(fs, &fs->status_file)) {
		read_status(req, size, offset, fi);
		return;
	}
	now.file = h->file;
	now.page = fi->lock_owner == 0;
	if (now.page && file_is_passthrough(h->file)) {
		reply_error(req, -EINVAL); /* nobody would keep the kernel's copy true */
		return;
	}
	if (h->kind != HANDLE_FOLLOWER || size == 0) {
		read_plain(req, h, size, offset, now.page);
		return;
	}
	now.offset = (uint64_t)offset;
	now.want = (uint32_t)size;
	now.nonblock = (fi->flags & O_NONBLOCK) && !h->nonblock;
	if (answer(fs, &now))
		return;
	w = hold_new(req, h->file, h);
	if (!w) {
		reply_error(req, -ENOMEM);
		return;
	}
	w->offset = now.offset;
	w->want = now.want;
	w->page = now.page;
	w->nonblock = now.nonblock;
	hold_request(fs, w);
}

/*
 * SEEK_DATA and SEEK_HOLE in a file that is not complete: all of it is data. What the store says of
 * holes would make a copying program write zeros for bytes that are still to come.
 */
static off_t seek_incomplete(struct fs *fs, struct file *f, off_t offset, int whence)
{
	struct statx stx;

	if (inode_statx(file_fd(f), "", AT_EMPTY_PATH, &stx) < 0)
		return -1;
	attr_overlay(fs, f->inode, &stx);
	if (offset < 0 || (uint64_t)offset >= stx.stx_size) {
		errno = ENXIO;
		return -1;
	}
	return whence == SEEK_DATA ? offset : (off_t)stx.stx_size;
}

void read_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;
	bool complete;
	off_t at;

	if (ino == fs_ino(fs, &fs->status_file)) {
		reply_error(req, -EINVAL); /* it has no struct handle */
		return;
	}
	pthread_mutex_lock(&fs->files_lock);
	complete = h->file->state == FILE_COMPLETE;
	pthread_mutex_unlock(&fs->files_lock);
	if (complete || h->kind == HANDLE_WRITER)
		at = lseek(file_fd(h->file), offset, whence);
	else
		at = seek_incomplete(fs, h->file, offset, whence);
	if (at < 0)
		reply_error(req, -errno);
	else
		reply_offset(req, at);
}
