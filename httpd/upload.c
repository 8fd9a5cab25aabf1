/* SPDX-License-Identifier: MIT */
#include "httpd/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/path.h"
#include "httpd/resource.h"
#include "httpd/root.h"
#include "httpd/server.h"

struct upload {
	struct list entry; /* uploads->lock */
	struct uploads *uploads;
	dev_t dev; /* of the directory */
	ino_t ino;
	int directory, fd;
	char *base, *temporary; /* temporary: NULL once the file has its name */
	bool live;              /* on an rwwfs mount: visible while it arrives */
	bool superseded;        /* one that began later has the name; uploads->lock */
	const struct upload_condition *condition; /* NULL: none */
	bool created;
};

void uploads_init(struct uploads *u)
{
	pthread_mutex_init(&u->lock, NULL);
	list_init(&u->all);
}

void uploads_destroy(struct uploads *u)
{
	pthread_mutex_destroy(&u->lock);
}

static void upload_free(struct upload *up)
{
	{
		SCOPED_LOCK(&up->uploads->lock);
		list_del(&up->entry);
	}
	if (up->temporary && unlinkat(up->directory, up->temporary, 0) && errno != ENOENT)
		log_warn("cannot remove the unfinished upload %s: %s, ignoring", up->temporary,
			strerror(errno));
	cleanup_close(&up->fd);
	cleanup_close(&up->directory);
	free(up->base);
	free(up->temporary);
	free(up);
}

static bool is_same(const struct upload *a, const struct upload *b)
{
	return a->dev == b->dev && a->ino == b->ino && !strcmp(a->base, b->base);
}

/* Listed in the order in which they began. */
static void upload_list(struct uploads *u, struct upload *up)
{
	SCOPED_LOCK(&u->lock);
	list_add_tail(&u->all, &up->entry);
}

/* Those to the same name that began before up. */
static void supersede_locked(struct upload *up)
{
	list_for_each (it, &up->uploads->all) {
		struct upload *other = list_entry(it, struct upload, entry);

		if (other == up)
			return;
		other->superseded |= is_same(other, up);
	}
}

static int create(struct upload *up)
{
	up->fd = openat(up->directory, up->temporary,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	return up->fd < 0 ? -errno : 0;
}

static int name_what_is_open(struct upload *up)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", up->fd);
	return linkat(AT_FDCWD, path, up->directory, up->temporary, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* A hidden name beside the final one. */
static int with_temporary_name(struct upload *up, int (*take)(struct upload *up))
{
	static atomic_uint number; /* only to be different */
	int r = -EEXIST;

	for (int i = 0; r == -EEXIST && i < 100; i++) {
		if (asprintf(&up->temporary, ".rww-upload-%d-%u", getpid(),
			    atomic_fetch_add(&number, 1)) < 0) {
			up->temporary = NULL;
			return -ENOMEM;
		}
		r = take(up);
		if (r < 0)
			free(steal_ptr(&up->temporary));
	}
	return r;
}

/* Where nobody shall see it before it is whole it has no name until then, so that nothing is left
 * if this process is killed; some filesystems cannot do that. */
static int temporary_open(struct server *s, struct upload *up)
{
	struct stat st = {.st_dev = up->dev};

	if (resource_may_grow(s, up->directory, &st) == 0)
		up->fd = openat(up->directory, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
	return up->fd < 0 ? with_temporary_name(up, create) : 0;
}

/* Gives it its name, unless that is another's by now: then it is as if it had been replaced. One
 * with a condition would not have replaced that other, and replaces what is there now: whoever
 * began before it, and is not through, comes after it. */
static int publish(struct upload *up)
{
	const struct upload_condition *only = up->condition;
	int r;

	SCOPED_LOCK(&up->uploads->lock);
	if (only) {
		r = up->superseded ? -ECANCELED : only->look(only->request);
		if (r < 0)
			return r;
	}
	if (up->superseded)
		return 0; /* upload_free() removes it */
	up->created =
		!renameat2(up->directory, up->temporary, up->directory, up->base, RENAME_NOREPLACE);
	if (!up->created && errno != EEXIST && errno != EINVAL)
		return -errno;
	if (!up->created && renameat(up->directory, up->temporary, up->directory, up->base))
		return -errno;
	free(up->temporary);
	up->temporary = NULL;
	if (!only)
		supersede_locked(up);
	return 0;
}

/* A directory of that name, or one that no file can have, would only be noticed when everything has
 * arrived. */
static int look(const struct upload *up)
{
	struct stat st;

	if (fstatat(up->directory, up->base, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	return S_ISDIR(st.st_mode) ? -EISDIR : 0;
}

static int upload_open(struct server *s, struct upload *up, uint64_t size)
{
	struct stat st;
	int r = look(up);

	if (!r)
		r = temporary_open(s, up);
	if (r < 0)
		return r;
	if (fstat(up->fd, &st))
		return -errno;
	r = resource_may_grow(s, up->fd, &st);
	if (r <= 0)
		return r;
	r = up->temporary ? 0
			  : with_temporary_name(up, name_what_is_open); /* behind another mount */
	if (r < 0)
		return r;
	up->live = true;
	if (size != UPLOAD_SIZE_UNKNOWN) {
		r = state_declare_size(up->fd, size);
		if (r < 0)
			log_trace("cannot declare the size of %s: %s, ignoring", up->base,
				strerror(-r));
	}
	return publish(up);
}

static int upload_locate(struct server *s, struct upload *up, const char *name)
{
	struct stat st;

	up->directory = root_open_parent(s->root, name, false);
	if (up->directory < 0)
		return up->directory;
	up->base = strdup(path_base(name));
	if (!up->base)
		return -ENOMEM;
	if (fstat(up->directory, &st))
		return -errno;
	up->dev = st.st_dev;
	up->ino = st.st_ino;
	return 0;
}

int upload_new(struct server *s, const char *name, uint64_t size,
	const struct upload_condition *condition, struct upload **ret)
{
	struct upload *up = calloc(1, sizeof(*up));
	int r;

	if (!up)
		return -ENOMEM;
	list_init(&up->entry);
	up->uploads = &s->uploads;
	up->condition = condition;
	up->directory = up->fd = -1;
	r = upload_locate(s, up, name);
	if (!r) {
		upload_list(&s->uploads, up);
		r = upload_open(s, up, size);
	}
	if (r < 0) {
		upload_free(up);
		return r;
	}
	*ret = up;
	return 0;
}

int upload_write(struct upload *up, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(up->fd, data, size);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

int upload_finish(struct upload *up, bool *ret_created)
{
	int r = up->live || up->temporary ? 0 : with_temporary_name(up, name_what_is_open);

	if (close(steal_fd(&up->fd)) && !r)
		r = -errno;
	if (!r && !up->live)
		r = publish(up);
	*ret_created = up->created;
	upload_free(up);
	return r;
}

void upload_abort(struct upload *up, const char *reason)
{
	int r = up->live ? state_abort(up->fd, reason) : 0;

	if (r < 0)
		log_warn("cannot mark the broken upload %s as aborted: %s, ignoring", up->base,
			strerror(-r));
	upload_free(up);
}
