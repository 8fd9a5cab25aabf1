// SPDX-License-Identifier: MIT
// To be preloaded into rww-httpd: while the file NO_MEMORY exists there is no memory for the list
// of all that is followed when nothing is, which the follow thread makes whenever a deadline has
// come (calloc(3) of 2 pointers; nobody else makes such a list), nor for a header of 777 bytes;
// when the file begins with a number, only not for that which is the so-manieth. Each time is noted
// there.
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static bool is_short(int nth)
{
	int fd = open(getenv("NO_MEMORY"), O_RDWR | O_APPEND | O_CLOEXEC), only;
	char text[16] = "";

	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		abort();
	only = atoi(text);
	if ((!only || only == nth) && write(fd, "x", 1) != 1)
		abort();
	close(fd);
	errno = ENOMEM;
	return !only || only == nth;
}

void *calloc(size_t count, size_t size)
{
	if (count == 2 && size == sizeof(void *) && is_short(-1))
		return NULL;
	return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	static atomic_int times;

	if (size == 778 && is_short(atomic_fetch_add(&times, 1) + 1))
		return NULL;
	return __libc_realloc(old, size);
}
