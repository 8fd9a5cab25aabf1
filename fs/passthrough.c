/* SPDX-License-Identifier: MIT */
#include "fs/passthrough.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/creds.h"
#include "fs/fs.h"

/* include/uapi/linux/fuse.h of Linux 6.9; headers of older releases lack them. */
#ifndef FUSE_DEV_IOC_BACKING_CLOSE
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN  _IOW(229, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)
#endif

/* Not of another user namespace, user_namespaces(7): there it would be refused for each file. */
static bool is_root(void)
{
	FILE *map = fopen("/proc/self/uid_map", "re");
	uint32_t inside, outside, count;
	bool all = true; /* there are no namespaces */

	if (map) {
		all = fscanf(map, "%" SCNu32 "%" SCNu32 "%" SCNu32, &inside, &outside, &count) ==
			      3 &&
		      inside == 0 && outside == 0 && count == UINT32_MAX;
		fclose(map);
	}
	return all && geteuid() == 0;
}

/* A gap inside a huge page of tmpfs is zeros as others: SEEK_HOLE does not show it (holes.c). */
static bool has_huge_pages(int fd)
{
	FILE *mounts = NULL;
	autofree char *line = NULL, *device = NULL;
	size_t size = 0;
	bool huge = false;
	struct statfs sf;
	struct stat st;

	if (fstatfs(fd, &sf) == 0 && sf.f_type == TMPFS_MAGIC && fstat(fd, &st) == 0 &&
		asprintf(&device, " %u:%u ", major(st.st_dev), minor(st.st_dev)) > 0)
		mounts = fopen("/proc/self/mountinfo", "re");
	while (mounts && !huge && getline(&line, &size, mounts) > 0)
		huge = strstr(line, device) &&
		       (strstr(line, ",huge=always") || strstr(line, ",huge=within_size"));
	if (mounts)
		fclose(mounts);
	return huge;
}

/* Whether fd is on another filesystem than the store's root, one that shows fewer gaps. */
static bool hides_gaps(const struct fs *fs, int fd)
{
	struct statvfs sv;
	struct stat st;

	if (!fs->inodes.several || fstat(fd, &st) < 0 || st.st_dev == fs->inodes.root.dev)
		return false;
	return fstatvfs(fd, &sv) < 0 || sv.f_bsize > fs->block || has_huge_pages(fd);
}

const char *passthrough_negotiate(struct fs *fs, struct fuse_conn_info *conn)
{
	struct statfs sf;

	if (fs->opt.passthrough == PASSTHROUGH_OFF)
		return "asked for";
	if (!(conn->capable & FUSE_CAP_PASSTHROUGH))
		return "the kernel has none: Linux 6.9 or later is needed";
	if (!is_root())
		return "only root may";
	if (has_huge_pages(fs->store_fd))
		return "gaps do not show in the store's huge pages";
	conn->want |= FUSE_CAP_PASSTHROUGH;
	/* A store on an overlay is one level up the stack of filesystems already. */
	conn->max_backing_stack_depth =
		fstatfs(fs->store_fd, &sf) == 0 && sf.f_type == OVERLAYFS_SUPER_MAGIC ? 1 : 0;
	return NULL;
}

int passthrough_register(struct fs *fs, fuse_req_t req, int fd)
{
	struct fuse_backing_map map = {.fd = fd};
	struct creds creds;
	int id, error;

	if (hides_gaps(fs, fd))
		return 0;
	/* The kernel writes with these credentials: they must not save set-id bits. */
	creds_take_for_backing(req, &creds);
	/* Not by libfuse, which would log each refusal. */
	id = ioctl(fuse_session_fd(fs->session), FUSE_DEV_IOC_BACKING_OPEN, &map);
	error = errno;
	creds_give_back(&creds);
	if (id > 0)
		return id;
	pthread_mutex_lock(&fs->files_lock);
	bool first = !fs->passthrough_said;
	fs->passthrough_said = true;
	pthread_mutex_unlock(&fs->files_lock);
	if (first)
		log_warn("the kernel refused passthrough for a file (%s): serving it here, "
			 "and others like it",
			strerror(error));
	return 0;
}

void passthrough_unregister(struct fs *fs, int id)
{
	uint32_t arg = (uint32_t)id;

	/* Fails only when the connection is gone, and the backing with it. */
	(void)ioctl(fuse_session_fd(fs->session), FUSE_DEV_IOC_BACKING_CLOSE, &arg);
}

void passthrough_set(struct fuse_file_info *fi, int id)
{
	fi->backing_id = id;
}
