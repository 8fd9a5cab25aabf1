/* SPDX-License-Identifier: MIT */
#include "fs/store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/fusermount.h"
#include "fs/mounts.h"

static int check_directory(const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		log_error("%s %s: %s", what, path,
			errno == ENOTCONN ? "a mount whose daemon died; unmount it first"
					  : strerror(errno));
		return -errno;
	}
	if (S_ISDIR(st.st_mode))
		return 0;
	log_error("%s %s: not a directory", what, path);
	return -ENOTDIR;
}

/* It is written before the mount answers, so there it would wait for itself. */
static int check_pidfile(const struct options *o)
{
	autofree char *copy = o->pidfile ? strdup(o->pidfile) : NULL, *folder = NULL;

	folder = copy ? realpath(dirname(copy), NULL) : NULL;
	if (!folder || (strcmp(folder, o->mountpoint) && !mounts_is_below(folder, o->mountpoint)))
		return 0; /* what else is wrong with it is found when it is written */
	log_error("pidfile %s: inside the mountpoint %s", o->pidfile, o->mountpoint);
	return -EINVAL;
}

static int check_places(const struct options *o)
{
	int r = check_directory("store", o->store);

	if (r == 0)
		r = check_directory("mountpoint", o->mountpoint);
	if (r < 0)
		return r;
	if (mounts_is_rwwfs(o->mountpoint)) {
		log_error("mountpoint %s: in use, an rwwfs is mounted there", o->mountpoint);
		return -EBUSY;
	}
	if (mounts_is_on_rwwfs(o->store)) {
		log_error("store %s: on an rwwfs mount itself", o->store);
		return -EINVAL;
	}
	if (strcmp(o->mountpoint, o->store) && mounts_is_below(o->mountpoint, o->store)) {
		log_error("mountpoint %s: inside the store %s", o->mountpoint, o->store);
		return -EINVAL;
	}
	if (geteuid() != 0 && access(o->mountpoint, W_OK) < 0) {
		log_error("mountpoint %s: no permission to write there, so none to mount",
			o->mountpoint);
		return -EACCES;
	}
	return check_pidfile(o);
}

/* What libfuse needs, found out beforehand for the sake of one clear message. */
static int check_fuse(void)
{
	autoclose int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && geteuid() != 0 && !fusermount_can_run()) {
		log_error("fusermount3: not found in PATH, or not to be run: is fuse3 installed?");
		return -ENOENT;
	}
	if (fd >= 0)
		return 0;
	log_error("/dev/fuse: %s%s", strerror(errno),
		errno == ENOENT ? ": is the fuse module loaded?" : "");
	return -errno;
}

/* umount(8) returns a little before the daemon that was there has let go. */
static int lock_patiently(int fd)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	int r;

	for (int tries = 50; (r = flock(fd, LOCK_EX | LOCK_NB)) < 0 && tries > 0; tries--) {
		if (errno != EWOULDBLOCK)
			break;
		(void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
	}
	return r;
}

int store_open(const struct options *o, int *ret_fd)
{
	autoclose int fd = -1;
	int r = check_places(o);

	if (r == 0)
		r = check_fuse();
	if (r < 0)
		return r;
	fd = open(o->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		log_error("store %s: %s", o->store, strerror(errno));
		return -errno;
	}
	if (lock_patiently(fd) < 0) {
		if (errno == EWOULDBLOCK)
			log_error("store %s: in use by another rwwfs", o->store);
		else
			log_error("store %s: cannot be locked: %s", o->store, strerror(errno));
		return -errno;
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}
