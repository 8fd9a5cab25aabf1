/* SPDX-License-Identifier: MIT */
#include "httpd/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "httpd/path.h"

/* The kernel answers EAGAIN when a rename raced with the walk (openat2(2)); with O_NONBLOCK it may
 * be the file that does (root.h). */
#define RACE_RETRIES 16

int root_open(int root, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};

	for (int i = 0; i < RACE_RETRIES; i++) {
		long fd = syscall(SYS_openat2, root, *name ? name : ".", &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if (errno != EINTR && (errno != EAGAIN || flags & O_NONBLOCK))
			return -errno;
	}
	return -EAGAIN;
}

int root_reopen(int fd, int flags)
{
	char link[32];
	int r;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	r = open(link, flags | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

static int make_directory(int root, const char *name)
{
	autoclose int parent = root_open_parent(root, name, false);

	if (parent < 0)
		return parent;
	return mkdirat(parent, path_base(name), 0777) && errno != EEXIST ? -errno : 0;
}

/* Makes each directory of name in turn; one that is there already is as good. */
static int make_directories(int root, const char *name)
{
	char prefix[PATH_MAX];

	for (size_t len = 0;; len++) {
		int r;

		len += strcspn(name + len, "/");
		memcpy(prefix, name, len);
		prefix[len] = '\0';
		r = make_directory(root, prefix);
		if (r < 0 || !name[len])
			return r;
	}
}

int root_open_parent(int root, const char *name, bool make)
{
	char parent[PATH_MAX];
	size_t len = path_parent_len(name);
	int fd;

	if (len >= sizeof(parent))
		return -ENAMETOOLONG;
	memcpy(parent, name, len);
	parent[len] = '\0';
	fd = root_open(root, parent, O_PATH | O_DIRECTORY, 0);
	if (fd != -ENOENT || !make)
		return fd;
	fd = make_directories(root, parent);
	return fd < 0 ? fd : root_open(root, parent, O_PATH | O_DIRECTORY, 0);
}
