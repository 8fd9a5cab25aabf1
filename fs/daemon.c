/* SPDX-License-Identifier: MIT */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

void daemon_fill_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* inherited, as the ones it stands for */
	while (fd >= 0 && fd < 3);
	if (fd >= 0)
		(void)close(fd); /* nothing was written */
}

int daemon_start(int *ret_ready_fd)
{
	int ends[2];
	pid_t pid;
	char byte;
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("cannot go into the background: %s", strerror(errno));
		return -errno;
	}
	if (pid == 0) {
		(void)close(ends[0]); /* the parent's */
		(void)setsid();       /* fails for a group leader, which a child is not */
		if (chdir("/") < 0)
			log_warn("chdir /: %s, ignoring", strerror(errno));
		*ret_ready_fd = ends[1];
		return 0;
	}
	(void)close(ends[1]); /* the child's */
	do
		n = read(ends[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	_exit(n == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}
