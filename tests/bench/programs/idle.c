/* SPDX-License-Identifier: MIT */
/*
 * idle PORT PATH COUNT
 *
 * COUNT clients GET a growing file and receive what is there. Prints "following"; a line on stdin
 * ends it.
 */
#include "http.h"

int main(int argc, char **argv)
{
	unsigned long port, count;
	int *fds;

	errno = EINVAL;
	if (argc != 4)
		die("idle: 3 arguments");
	die_with_parent();
	all_descriptors();
	port = number(argv[1]);
	count = number(argv[3]);
	fds = calloc(count, sizeof(*fds));
	if (!fds)
		die("memory");
	for (unsigned long i = 0; i < count; i++) {
		struct answer answer = {0};

		fds[i] = http_connect(port);
		http_send(fds[i], "GET", argv[2], false);
		answer_await(&answer, fds[i], 1);
	}
	printf("following\n");
	await_line();
	return 0;
}
