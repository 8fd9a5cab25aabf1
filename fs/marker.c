/* SPDX-License-Identifier: MIT */
#include "fs/marker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/parse.h"
#include "fs/rule.h"

/* getxattrat(2) of Linux 6.13: include/uapi/asm-generic/unistd.h; older headers lack it. */
#if !defined(SYS_getxattrat) && (defined(__x86_64__) || defined(__aarch64__))
#define SYS_getxattrat 464
#elif !defined(SYS_getxattrat)
#define SYS_getxattrat (-1)
#endif

/* Anything that is not understood counts as growing: it was not completed. */
static void decode(char *text, struct marker *ret)
{
	char *rest = text, *state = strsep(&rest, " "), *declared = strsep(&rest, " ");

	*ret = (struct marker){.aborted = !strcmp(state, "aborted"), .declared = RULE_NONE};
	if (declared)
		(void)parse_u64(declared, &ret->declared); /* "-": none */
	if (rest)
		snprintf(ret->reason, sizeof(ret->reason), "%s", rest);
}

static int decoded(char *text, ssize_t n, struct marker *ret)
{
	if (n < 0 && errno == ERANGE)
		n = 0; /* not ours, but it is there */
	if (n < 0)
		return -errno;
	text[n] = '\0';
	decode(text, ret);
	return 0;
}

int marker_read(int fd, struct marker *ret)
{
	char text[MARKER_REASON_MAX + 64];

	return decoded(text, fgetxattr(fd, MARKER_NAME, text, sizeof(text) - 1), ret);
}

/* The way through /proc takes longer than all the rest, but is there on every kernel. */
static ssize_t get_at(int dir_fd, const char *name, char *text, size_t size)
{
	static atomic_bool missing;
	struct {
		alignas(8) uint64_t value;
		uint32_t size, flags;
	} args = {.value = (uintptr_t)text, .size = (uint32_t)size};
	char path[32 + 256];
	ssize_t n;

	if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
		n = syscall(SYS_getxattrat, dir_fd, name, AT_SYMLINK_NOFOLLOW, MARKER_NAME, &args,
			sizeof(args));
		if (n >= 0 || (errno != ENOSYS && errno != EPERM)) /* EPERM: a container's filter */
			return n;
		atomic_store_explicit(&missing, true, memory_order_relaxed);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	return lgetxattr(path, MARKER_NAME, text, size);
}

int marker_read_at(int dir_fd, const char *name, struct marker *ret)
{
	char text[MARKER_REASON_MAX + 64];

	return decoded(text, get_at(dir_fd, name, text, sizeof(text) - 1), ret);
}

/* Sets the attribute, or with NULL removes it. */
static int change_now(int fd, const char *text, size_t n)
{
	if (text)
		return fsetxattr(fd, MARKER_NAME, text, n, 0) < 0 ? -errno : 0;
	return fremovexattr(fd, MARKER_NAME) < 0 && errno != ENODATA ? -errno : 0;
}

/*
 * user.* attributes need write permission for the inode, however the descriptor was opened. A
 * daemon that is not root lends it to a file of its own that has none, such as one made with mode
 * 0444.
 */
static int change(int fd, const char *text, size_t n)
{
	int r = change_now(fd, text, n);
	struct stat st;

	if (r != -EACCES || fstat(fd, &st) < 0 || fchmod(fd, (st.st_mode & 07777) | S_IWUSR) < 0)
		return r;
	r = change_now(fd, text, n);
	if (fchmod(fd, st.st_mode & 07777) < 0)
		return -errno;
	return r;
}

int marker_write(int fd, const struct marker *m)
{
	char text[MARKER_REASON_MAX + 64], declared[24] = "-";
	int n;

	if (m->declared != RULE_NONE)
		snprintf(declared, sizeof(declared), "%" PRIu64, m->declared);
	n = snprintf(text, sizeof(text), "%s %s %s", m->aborted ? "aborted" : "growing", declared,
		m->reason);
	return change(fd, text, (size_t)n);
}

int marker_remove(int fd)
{
	return change(fd, NULL, 0);
}
