/* SPDX-License-Identifier: MIT */
#include "httpd/resource.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/timespec.h"
#include "httpd/root.h"
#include "httpd/server.h"

#define RACES    8 /* looks at a file that changes meanwhile */
#define DATA_MAX ((size_t)64 << 20)

static atomic_size_t data_held; /* bytes of what is more than RESOURCE_SMALL, of all together */

int resource_may_grow(const struct server *s, int fd, const struct stat *st)
{
	if (st->st_dev == s->live_device)
		return 1;
	return st->st_dev == s->plain_device ? 0 : state_is_known(fd);
}

static int open_flags(mode_t mode)
{
	if (S_ISREG(mode))
		return ROOT_READ;
	if (S_ISDIR(mode))
		return O_RDONLY | O_DIRECTORY;
	return -EACCES;
}

/* Without the time of the last access: each read makes the kernel forget it, and it alone would
 * have to be asked of a mount's daemon. */
static int stat_at(int dir, const char *name, int flags, struct stat *ret)
{
	struct statx stx;

	if (statx(dir, name, flags, STATX_BASIC_STATS & ~STATX_ATIME, &stx))
		return -errno;
	*ret = (struct stat){
		.st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
		.st_ino = stx.stx_ino,
		.st_mode = stx.stx_mode,
		.st_size = (off_t)stx.stx_size,
		.st_mtim = {stx.stx_mtime.tv_sec, stx.stx_mtime.tv_nsec},
		.st_ctim = {stx.stx_ctime.tv_sec, stx.stx_ctime.tv_nsec},
	};
	return 0;
}

/* The careful way: as O_PATH, which touches nothing, and by that descriptor again. */
static int open_careful(const struct server *s, const char *name)
{
	autoclose int path = root_open(s->root, name, O_PATH, 0);
	struct stat st;
	int flags;

	if (path < 0)
		return path;
	if (fstat(path, &st))
		return -errno;
	flags = open_flags(st.st_mode);
	return flags < 0 ? flags : root_reopen(path, flags);
}

/* The quick way for what seems to be a regular file. The look is only a hint: it may be wrong by
 * the time of the open, and where it follows a symlink out of the root, the open does not. */
static int open_quick(const struct server *s, const char *name)
{
	struct stat st;

	if (stat_at(s->root, *name ? name : ".", AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, &st) ||
		!S_ISREG(st.st_mode))
		return -EAGAIN;
	return root_open(s->root, name, open_flags(st.st_mode), 0);
}

static void drop_data(struct resource *r)
{
	size_t size = (size_t)r->st.st_size;

	if (r->data && size > RESOURCE_SMALL)
		atomic_fetch_sub(&data_held, size);
	free(r->data);
	r->data = NULL;
}

static char *make_room(size_t size)
{
	char *room = NULL;

	if (size <= RESOURCE_SMALL)
		return malloc(size + 1);
	if (atomic_fetch_add(&data_held, size) + size <= DATA_MAX)
		room = malloc(size + 1);
	if (!room)
		atomic_fetch_sub(&data_held, size);
	return room;
}

/* None when it cannot be read whole: that comes up again. */
static void read_data(struct resource *r, int fd)
{
	size_t size = (size_t)r->st.st_size;
	ssize_t n;

	r->data = make_room(size);
	if (!r->data)
		return;
	n = pread(fd, r->data, size + 1, 0); /* a longer one is another */
	if (n < 0 || (size_t)n != size)
		drop_data(r);
}

/* Data, attributes and state of one moment, of a file that may be opened afresh at any: none of
 * them has changed when the state comes with the same time as the attributes. What the kernel
 * knows of it may be old, but then its time is. */
static int ask_state(int fd, size_t data_max, struct resource *ret)
{
	struct progress p;
	bool same;

	for (int i = 0; i < RACES; i++) {
		int r = i == 0 ? 0 : stat_at(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, &ret->st);

		if (r < 0)
			return r;
		if ((uint64_t)ret->st.st_size <= data_max)
			read_data(ret, fd);
		r = state_progress(fd, &p);
		if (r == -EAGAIN) { /* it will tell when it was cut: who follows it waits */
			p = (struct progress){.state = STATE_GROWING};
			r = 0;
		}
		same = (uint64_t)ret->st.st_size == p.edge &&
		       same_time(&ret->st.st_ctim, &p.changed);
		if (r < 0 || p.state != STATE_COMPLETE || !same)
			drop_data(ret);
		if (r < 0)
			return r;
		if (p.state != STATE_COMPLETE || same)
			break;
	}
	if (p.state == STATE_COMPLETE)
		ret->st.st_size = (off_t)p.edge;
	ret->state = p.state;
	ret->told = p;
	return 0;
}

/* New bytes can be read a moment before the kernel knows of new times: here the daemon is asked. */
bool resource_changed(const struct resource *r)
{
	struct stat st = {0};

	return r->state != STATE_PLAIN &&
	       (stat_at(r->fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, &st) ||
		       st.st_size != r->st.st_size || !same_time(&st.st_mtim, &r->st.st_mtim) ||
		       !same_time(&st.st_ctim, &r->st.st_ctim));
}

/* One that was written to and is no longer than before was written over; one that is longer was
 * most likely appended to, which takes nothing back. A write sets the time first, and then the
 * size. */
int resource_was_cut(const struct resource *r, unsigned *doubts)
{
	uint64_t size = (uint64_t)r->st.st_size;
	struct progress p;
	int error;

	if (r->state == STATE_PLAIN)
		return 0;
	error = state_progress(r->fd, &p);
	if (error == -EAGAIN)
		return error;
	if (error < 0 || p.cuts != r->told.cuts || p.edge < size)
		return 1;
	if (p.edge > size || same_time(&p.written, &r->told.written)) {
		*doubts = 0;
		return 0;
	}
	if (p.state == STATE_GROWING && !(*doubts)++)
		return -EAGAIN;
	return 1;
}

/* Closes opened, which may be an error, when it fails. */
static int take(const struct server *s, int opened, size_t data_max, struct resource *ret)
{
	autoclose int fd = opened;
	int r;

	if (fd < 0)
		return fd;
	ret->state = STATE_PLAIN;
	ret->told = (struct progress){0};
	ret->data = NULL;
	r = stat_at(fd, "", AT_EMPTY_PATH, &ret->st);
	if (r < 0)
		return r;
	if (!S_ISREG(ret->st.st_mode) && !S_ISDIR(ret->st.st_mode))
		return -EACCES;
	if (S_ISREG(ret->st.st_mode))
		r = resource_may_grow(s, fd, &ret->st);
	if (r < 0)
		return r;
	if (r) {
		r = ask_state(fd, data_max, ret);
		if (r < 0)
			return r == -ENODATA ? -EACCES : r; /* made up by the mount: no file */
	}
	ret->fd = steal_fd(&fd);
	return 0;
}

int resource_open(const struct server *s, const char *name, size_t data_max, struct resource *ret)
{
	int fd = open_quick(s, name);

	return take(s, fd < 0 ? open_careful(s, name) : fd, data_max, ret);
}

int resource_open_again(const struct server *s, size_t data_max, struct resource *r)
{
	struct resource fresh;
	int ret = take(s, root_reopen(r->fd, ROOT_READ), data_max, &fresh);

	if (ret < 0)
		return ret;
	resource_close(r);
	*r = fresh;
	return 0;
}

void resource_close(struct resource *r)
{
	cleanup_close(&r->fd);
	r->fd = -1;
	drop_data(r);
}
