/* SPDX-License-Identifier: MIT */
/*
 * latency STORE_FILE MOUNT_FILE SAMPLES BUSY
 *
 * From before write(2) in one process to the return of the read(2) that delivers it in another. The
 * mount's reader waits in that read; the store's reader waits for inotify and then reads, as
 * tail -f does. Samples alternate, at random distances around a millisecond. BUSY processes compute
 * beside it. Prints a line per pair: nanoseconds store, mount.
 */
#include "bench.h"

#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mman.h>

struct shared {
	_Atomic uint64_t seen; /* when the last read returned; 0: not yet */
	uint64_t started;
	char pad[112];
};

static struct shared *shared;

static void got(struct shared *s, uint64_t when)
{
	atomic_store(&s->seen, when);
}

static void mount_reader(const char *path, struct shared *s)
{
	int fd = must_open(path, O_RDONLY);
	char buf[4096];

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0)
			die("read %s", path);
		if (n == 0)
			return;
		got(s, now_ns());
	}
}

static void store_reader(const char *path, struct shared *s)
{
	int fd = must_open(path, O_RDONLY), watch = inotify_init1(IN_CLOEXEC);
	char buf[4096], events[4096];

	if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
		die("inotify %s", path);
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0)
			die("read %s", path);
		if (n > 0 && buf[n - 1] == '.')
			return;
		if (n > 0)
			got(s, now_ns());
		if (read(watch, events, sizeof(events)) < 0)
			die("inotify");
	}
}

static void await_seen(struct shared *s)
{
	for (int i = 0; !atomic_load(&s->seen); i++) {
		if (i > 200000) {
			errno = ETIMEDOUT;
			die("a reader saw nothing");
		}
		sleep_ns(20000);
	}
}

static uint64_t sample(int fd, struct shared *s)
{
	atomic_store(&s->seen, 0);
	sleep_ns(400000 + (uint64_t)random() % 800000);
	s->started = now_ns();
	must_write(fd, "0123456789abcdef\n", 17);
	await_seen(s);
	return atomic_load(&s->seen) - s->started;
}

static void compute(void)
{
	for (volatile unsigned long i = 0;; i++)
		;
}

int main(int argc, char **argv)
{
	unsigned long samples, n_busy;
	pid_t reader[2], busy[64];
	int fd[2];

	errno = EINVAL;
	if (argc != 5)
		die("latency: 4 arguments");
	die_with_parent();
	samples = number(argv[3]);
	n_busy = number(argv[4]);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || n_busy > 64)
		die("mmap");
	for (int k = 0; k < 2; k++) {
		fd[k] = must_open(argv[1 + k], O_WRONLY | O_CREAT | O_EXCL);
		must_write(fd[k], "first\n", 6);
		reader[k] = fork_child();
		if (reader[k] == 0) {
			close(fd[0]);
			if (k)
				close(fd[1]);
			(k ? mount_reader : store_reader)(argv[1 + k], shared + k);
			_exit(0);
		}
		await_seen(shared + k);
	}
	for (unsigned long b = 0; b < n_busy; b++)
		if ((busy[b] = fork_child()) == 0)
			compute();
	for (unsigned long i = 0; i < samples + 200; i++) {
		uint64_t ns[2];

		ns[i % 2] = sample(fd[i % 2], shared + i % 2);
		ns[1 - i % 2] = sample(fd[1 - i % 2], shared + 1 - i % 2);
		if (i >= 200) /* warm-up */
			printf("%lu %lu\n", (unsigned long)ns[0], (unsigned long)ns[1]);
	}
	for (unsigned long b = 0; b < n_busy; b++) {
		kill(busy[b], SIGKILL);
		waitpid(busy[b], NULL, 0);
	}
	must_write(fd[0], ".", 1);
	for (int k = 0; k < 2; k++) {
		if (close(fd[k]) < 0)
			die("close");
		end_child(reader[k]);
		unlink(argv[1 + k]);
	}
	return 0;
}
