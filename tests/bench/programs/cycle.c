/* SPDX-License-Identifier: MIT */
/*
 * cycle FILES BATCH SIZE DIR...
 *
 * Creates, writes and closes BATCH files of SIZE bytes, then unlinks them: in each directory in
 * turn, in changing order, until each has seen FILES. Prints a line per round: nanoseconds for each
 * directory. In a +DIR each file gets the daemon's marker after creation and loses it before close.
 */
#include <sys/xattr.h>

#include "../../../fs/marker.h"
#include "bench.h"

static char data[65536];

static uint64_t batch(const char *dir, unsigned long n, size_t size)
{
	bool marked = *dir == '+';
	uint64_t start;
	char name[64];

	if (chdir(dir + marked) < 0)
		die("%s", dir);
	start = now_ns();
	for (unsigned long i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "small-%04lu", i);
		fd = must_open(name, O_WRONLY | O_CREAT | O_EXCL);
		if (marked && fsetxattr(fd, MARKER_NAME, "growing - ", 10, 0) < 0)
			die("fsetxattr %s", name);
		must_write(fd, data, size);
		if (marked && fremovexattr(fd, MARKER_NAME) < 0)
			die("fremovexattr %s", name);
		if (close(fd) < 0)
			die("close %s", name);
	}
	for (unsigned long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "small-%04lu", i);
		if (unlink(name) < 0)
			die("unlink %s", name);
	}
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	unsigned long n_files, n_batch, size;
	int n_dirs = argc - 4;

	errno = EINVAL;
	if (argc < 5 || n_dirs > 8)
		die("cycle: 4 arguments");
	die_with_parent();
	n_files = number(argv[1]);
	n_batch = number(argv[2]);
	size = number(argv[3]);
	if (size > sizeof(data))
		die("size");
	for (unsigned long r = 0; r < n_files / n_batch + 2; r++) {
		uint64_t ns[8];

		for (int k = 0; k < n_dirs; k++) {
			int which = (int)((r + (unsigned long)k) % (unsigned long)n_dirs);

			if (r / (unsigned long)n_dirs % 2)
				which = n_dirs - 1 - which;
			ns[which] = batch(argv[4 + which], n_batch, size);
		}
		if (r < 2) /* warm-up */
			continue;
		for (int k = 0; k < n_dirs; k++)
			printf("%lu%c", (unsigned long)ns[k], k + 1 < n_dirs ? ' ' : '\n');
	}
	return 0;
}
