// SPDX-License-Identifier: MIT
// To be preloaded: fsync(2) and fdatasync(2) as they are on a disk that takes its time, or fails,
// fsetxattr(2), fremovexattr(2), ftruncate(2) and sync_file_range(2) likewise. pread(2) and
// pwritev2(2) have done what they do, but do not return.
//
// In the folder SLOW_DISK, the file "marker" stands for fsyncs of files without rwwfs's marker,
// "data" for those that have it, "setting" for fsetxattr(2), "removal" for fremovexattr(2), "size"
// for ftruncate(2), "read" for pread(2), "write" for pwritev2(2), "writeout" for
// sync_file_range(2). A call waits until nobody has
// that file locked, and fails with EIO when it is not empty. "writeouts" gets a byte for each.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static int wait_for_disk(const char *which)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", getenv("SLOW_DISK"), which);
	int gate = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (gate < 0 || flock(gate, LOCK_SH) < 0 || fstat(gate, &st) < 0)
		abort();
	close(gate);
	if (st.st_size) {
		errno = EIO;
		return -1;
	}
	return 0;
}

static void count(const char *which)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", getenv("SLOW_DISK"), which);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, ".", 1) != 1)
		abort();
	close(fd);
}

static int sync_slowly(int fd, long call)
{
	bool marked = fgetxattr(fd, "user.rww.marker", NULL, 0) >= 0;
	return wait_for_disk(marked ? "data" : "marker") < 0 ? -1 : (int)syscall(call, fd);
}

int fsync(int fd)
{
	return sync_slowly(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_slowly(fd, SYS_fdatasync);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	if (wait_for_disk("setting") < 0)
		return -1;
	return (int)syscall(SYS_fsetxattr, fd, name, value, size, flags);
}

int fremovexattr(int fd, const char *name)
{
	return wait_for_disk("removal") < 0 ? -1 : (int)syscall(SYS_fremovexattr, fd, name);
}

int ftruncate64(int fd, off64_t size)
{
	return wait_for_disk("size") < 0 ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
	count("writeouts");
	if (wait_for_disk("writeout") < 0)
		return -1;
	return (int)syscall(SYS_sync_file_range, fd, offset, size, flags);
}

ssize_t pread64(int fd, void *buf, size_t size, off64_t offset)
{
	ssize_t n = syscall(SYS_pread64, fd, buf, size, offset);
	return wait_for_disk("read") < 0 ? -1 : n;
}

ssize_t pread(int fd, void *buf, size_t size, off_t offset)
{
	return pread64(fd, buf, size, offset);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
{
	ssize_t n = syscall(SYS_pwritev2, fd, iov, count, offset, 0, flags);
	return wait_for_disk("write") < 0 ? -1 : n;
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	return pwritev64v2(fd, iov, count, offset, flags);
}
