/* SPDX-License-Identifier: MIT */
/*
 * first PORT SAMPLES PATH PATH
 *
 * From before connect(2) to the first byte of the body, for the two in turn. Prints a line per
 * pair, in nanoseconds.
 */
#include "http.h"

static uint64_t one(unsigned long port, const char *path)
{
	struct answer answer = {0};
	uint64_t start = now_ns();
	int fd = http_connect(port);

	http_send(fd, "GET", path, false);
	answer_await(&answer, fd, 1);
	start = now_ns() - start;
	close(fd);
	return start;
}

int main(int argc, char **argv)
{
	unsigned long port, samples;

	errno = EINVAL;
	if (argc != 5)
		die("first: 4 arguments");
	die_with_parent();
	port = number(argv[1]);
	samples = number(argv[2]);
	for (unsigned long i = 0; i < samples + 20; i++) {
		uint64_t ns[2];

		ns[i % 2] = one(port, argv[3 + i % 2]);
		ns[1 - i % 2] = one(port, argv[4 - i % 2]);
		if (i >= 20) /* warm-up */
			printf("%lu %lu\n", (unsigned long)ns[0], (unsigned long)ns[1]);
	}
	return 0;
}
