/* SPDX-License-Identifier: MIT */
/*
 * read STORE_FILE MOUNT_FILE BUFFER ROUNDS read|sendfile
 *
 * Each round reads both files from beginning to end, in alternating order, with read(2) into one
 * buffer or with sendfile(2) to /dev/null. Prints a line per round: nanoseconds store, mount.
 */
#include "bench.h"

#include <stdbool.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static size_t size;
static char *buf;
static bool with_sendfile;

static uint64_t one(const char *path)
{
	int fd = must_open(path, O_RDONLY), null = must_open("/dev/null", O_WRONLY);
	struct stat st;
	uint64_t start, end, got = 0;
	ssize_t n;

	start = now_ns();
	while ((n = with_sendfile ? sendfile(null, fd, NULL, size) : read(fd, buf, size)) > 0)
		got += (uint64_t)n;
	end = now_ns();
	if (n < 0 || fstat(fd, &st) < 0)
		die("%s", path);
	errno = 0;
	if (got != (uint64_t)st.st_size)
		die("%s: %lu bytes of %lu", path, (unsigned long)got, (unsigned long)st.st_size);
	close(fd);
	close(null);
	return end - start;
}

int main(int argc, char **argv)
{
	unsigned long rounds;

	errno = EINVAL;
	if (argc != 6)
		die("read: 5 arguments");
	die_with_parent();
	size = number(argv[3]);
	rounds = number(argv[4]);
	with_sendfile = !strcmp(argv[5], "sendfile");
	buf = malloc(size);
	if (!buf)
		die("malloc");
	memset(buf, 1, size);
	for (unsigned long r = 0; r < rounds + 2; r++) {
		uint64_t ns[2];

		ns[r % 2] = one(argv[1 + r % 2]);
		ns[1 - r % 2] = one(argv[2 - r % 2]);
		if (r >= 2) /* warm-up */
			printf("%lu %lu\n", (unsigned long)ns[0], (unsigned long)ns[1]);
	}
	return 0;
}
