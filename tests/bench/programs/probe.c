/* SPDX-License-Identifier: MIT */
/*
 * probe DIR ROUNDS
 *
 * What others do on a mount while reads are held there. DIR has the files complete-0 to
 * complete-49. Each round stats one (past every cache), lists DIR, writes a file of 16 KiB in four
 * pieces and removes it, and reads one file from open to close. Prints a line per operation:
 * its name and nanoseconds.
 */
#include "bench.h"

#include <dirent.h>
#include <sys/stat.h>

static const char *dir;
static char buf[65536];

static void do_stat(unsigned long round)
{
	struct statx stx;
	char path[512];

	snprintf(path, sizeof(path), "%s/complete-%lu", dir, round % 50);
	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx) < 0)
		die("statx %s", path);
}

static void do_list(unsigned long round)
{
	DIR *d = opendir(dir);
	int n = 0;

	(void)round;
	if (!d)
		die("opendir %s", dir);
	while (readdir(d))
		n++;
	closedir(d);
	errno = 0;
	if (n < 52)
		die("%s: %d entries", dir, n);
}

static void do_write(unsigned long round)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/own-%lu", dir, round);
	fd = must_open(path, O_WRONLY | O_CREAT | O_EXCL);
	for (int i = 0; i < 4; i++)
		must_write(fd, buf, 4096);
	if (close(fd) < 0 || unlink(path) < 0)
		die("%s", path);
}

static void do_read(unsigned long round)
{
	char path[512];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/complete-%lu", dir, round % 50);
	fd = must_open(path, O_RDONLY);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	if (n < 0)
		die("read %s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(unsigned long round);
	} operations[] = {
		{"stat", do_stat}, {"list", do_list}, {"write", do_write}, {"read", do_read}};
	unsigned long rounds;

	errno = EINVAL;
	if (argc != 3)
		die("probe: 2 arguments");
	die_with_parent();
	dir = argv[1];
	rounds = number(argv[2]);
	for (unsigned long r = 0; r < rounds; r++)
		for (size_t k = 0; k < 4; k++) {
			uint64_t start = now_ns(), end;

			operations[k].run(r);
			end = now_ns();
			if (r >= 20) /* warm-up */
				printf("%s %lu\n", operations[k].name,
					(unsigned long)(end - start));
			sleep_ns(100000);
		}
	return 0;
}
