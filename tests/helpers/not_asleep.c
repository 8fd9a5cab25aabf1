// SPDX-License-Identifier: MIT
// To be preloaded: the first times that /proc/PID/syscall is opened, it is that of a thread which
// others keep from the processor, so that it has sent its request, but does not wait for it yet.
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int as_running(void)
{
	int fd = memfd_create("syscall", MFD_CLOEXEC);

	if (write(fd, "running\n", 8) != 8 || lseek(fd, 0, SEEK_SET) != 0)
		_exit(1);
	return fd;
}

static int open_any(const char *path, int flags, mode_t mode)
{
	static atomic_int left = 100;

	if (fnmatch("/proc/*/syscall", path, 0) == 0 && atomic_fetch_sub(&left, 1) > 0)
		return as_running();
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
