/* SPDX-License-Identifier: MIT */
/*
 * write STORE_DIR MOUNT_DIR SIZE COUNT ROUNDS FOLLOWED
 *
 * Each round writes COUNT times SIZE bytes into a new file: in the store directly, through the
 * mount, and with FOLLOWED=1 also in the store while a tail-like inotify loop reads along; then the
 * mount's file has one follower that reads along with plain read(2). The order alternates. Prints a
 * line per round: nanoseconds of the writes alone, in that sequence. Followers must get every byte.
 * Files live for a moment only, so that writeback stays out of it.
 */
#include "bench.h"

#include <sys/inotify.h>

enum follower { FOLLOW_NONE, FOLLOW_READ, FOLLOW_INOTIFY };

static size_t size, count;
static char *data;

static void follow_read(const char *path, int ready, uint64_t total)
{
	static char buf[128 << 10];
	int fd = must_open(path, O_RDONLY);
	uint64_t got = 0;

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0)
			die("read %s", path);
		if (n == 0)
			break;
		if (got == 0)
			must_write(ready, "", 1);
		got += (uint64_t)n;
	}
	errno = 0;
	if (got != total)
		die("%s: read %lu bytes of %lu", path, (unsigned long)got, (unsigned long)total);
}

static void follow_inotify(const char *path, int ready, uint64_t total)
{
	static char buf[128 << 10], events[4096];
	int fd = must_open(path, O_RDONLY), watch = inotify_init1(IN_CLOEXEC);
	uint64_t got = 0;
	ssize_t n;

	if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
		die("inotify %s", path);
	for (;;) {
		while ((n = read(fd, buf, sizeof(buf))) > 0) {
			if (got == 0)
				must_write(ready, "", 1);
			got += (uint64_t)n;
		}
		if (n < 0)
			die("read %s", path);
		if (got == total)
			return;
		if (read(watch, events, sizeof(events)) < 0)
			die("inotify");
	}
}

static pid_t start_follower(enum follower kind, const char *path, uint64_t total, int writer)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (kind == FOLLOW_NONE)
		return 0;
	if (pipe(ready) < 0)
		die("pipe");
	pid = fork_child();
	if (pid == 0) {
		close(writer);
		if (kind == FOLLOW_READ)
			follow_read(path, ready[1], total);
		else
			follow_inotify(path, ready[1], total);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("no follower of %s", path);
	close(ready[0]);
	sleep_ns(2000000); /* now it waits for more */
	return pid;
}

static uint64_t one(const char *dir, enum follower kind)
{
	static unsigned serial;
	char path[4096];
	uint64_t start, end;
	pid_t pid;
	int fd;

	snprintf(path, sizeof(path), "%s/write-%u", dir, serial++);
	fd = must_open(path, O_WRONLY | O_CREAT | O_EXCL);
	must_write(fd, data, size);
	pid = start_follower(kind, path, (uint64_t)size * (count + 1), fd);
	start = now_ns();
	for (size_t i = 0; i < count; i++)
		must_write(fd, data, size);
	end = now_ns();
	if (close(fd) < 0)
		die("close %s", path);
	if (pid)
		end_child(pid);
	if (unlink(path) < 0)
		die("unlink %s", path);
	return end - start;
}

int main(int argc, char **argv)
{
	unsigned long rounds;
	int followed, kinds;

	errno = EINVAL;
	if (argc != 7)
		die("write: 6 arguments");
	die_with_parent();
	size = number(argv[3]);
	count = number(argv[4]);
	rounds = number(argv[5]);
	followed = number(argv[6]) != 0;
	kinds = followed ? 3 : 2;
	data = malloc(size);
	if (!data)
		die("malloc");
	memset(data, 'x', size);
	for (unsigned long r = 0; r < rounds + 2; r++) {
		uint64_t ns[3] = {0};

		for (int k = 0; k < kinds; k++) {
			int which = r % 2 ? kinds - 1 - k : k;

			if (which == 1)
				ns[1] = one(argv[2], followed ? FOLLOW_READ : FOLLOW_NONE);
			else
				ns[which] = one(argv[1], which ? FOLLOW_INOTIFY : FOLLOW_NONE);
		}
		if (r >= 2) /* warm-up */
			printf("%lu %lu %lu\n", (unsigned long)ns[0], (unsigned long)ns[1],
				(unsigned long)ns[2]);
	}
	return 0;
}
