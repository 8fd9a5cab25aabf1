/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over files of its corpus, for builds without libFuzzer. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(int dir, const char *name)
{
	static uint8_t data[65536];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));

	if (fd >= 0)
		(void)close(fd); /* only read from */
	if (n < 0) {
		perror(name);
		return 1;
	}
	(void)LLVMFuzzerTestOneInput(data, (size_t)n); /* always 0 */
	return 0;
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	int failed = 0, count = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
		return 2;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		failed |= replay(dirfd(dir), e->d_name);
		count++;
	}
	(void)closedir(dir); /* only read from */
	return failed || !count;
}
