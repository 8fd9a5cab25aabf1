// SPDX-License-Identifier: MIT
// A writer that appends one byte, closes, or does both in the very microseconds in which a reader
// starts to wait. The reader announces each read; the writer acts a random moment later. A round
// whose read does not come back in time is a lost wake-up.
//
// race FILE ROUNDS SEED
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_S = 20, MAX_DELAY_NS = 40000 };
enum action { APPEND, CLOSE, APPEND_AND_CLOSE };

struct shared {
	_Atomic long go;    // rounds the writer has prepared
	_Atomic long begun; // rounds in which the reader is about to read
	_Atomic long done;  // rounds in which the reader got what it should
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static enum action action_of(uint64_t salt, long round)
{
	return mix(salt ^ (uint64_t)round) % 3;
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static const char *file;
static uint64_t seed;

static void tell(const char *name)
{
	char value[64] = "";
	if (getxattr(file, name, value, sizeof value - 1) > 0)
		fprintf(stderr, " %s=%s", strrchr(name, '.') + 1, value);
}

static void fail(const char *what, long round)
{
	static const char *const names[] = {"append", "close", "append and close"};
	struct stat st = {0};
	stat(file, &st);
	fprintf(stderr, "round %ld (%s): %s (errno %s), size=%lld", round,
		names[action_of(seed, round)], what, strerror(errno), (long long)st.st_size);
	tell("user.rww.state");
	tell("user.rww.edge");
	tell("user.rww.writers");
	tell("user.rww.readers");
	fprintf(stderr, "\n");
	exit(1);
}

static void await(_Atomic long *counter, long value, long round, const char *what)
{
	int64_t deadline = 0;
	for (long spins = 0; atomic_load(counter) < value; spins++) {
		if (spins % 1024 != 1023)
			continue;
		sched_yield();
		if (!deadline)
			deadline = now_ns() + DEADLINE_S * 1000000000ll;
		else if (now_ns() > deadline)
			fail(what, round);
	}
}

static void expect_byte(int fd, long round)
{
	char c;
	ssize_t got = read(fd, &c, 1);
	if (got != 1)
		fail(got == 0 ? "EOF instead of a byte" : "error instead of a byte", round);
	if (c != (char)round)
		fail("a wrong byte", round);
}

static void expect_end(int fd, long round)
{
	char c;
	ssize_t got = read(fd, &c, 1);
	if (got != 0)
		fail(got > 0 ? "a byte instead of EOF" : "error instead of EOF", round);
}

static void reader(struct shared *shared, long rounds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int fd = open(file, O_RDONLY);
	if (fd < 0)
		fail("reader cannot open", 0);
	expect_byte(fd, 0);
	for (long i = 0; i < rounds; i++) {
		enum action action = action_of(seed, i);
		await(&shared->go, i + 1, i, "the writer is gone");
		atomic_store(&shared->begun, i + 1);
		if (action != CLOSE)
			expect_byte(fd, i);
		if (action != APPEND)
			expect_end(fd, i);
		atomic_store(&shared->done, i + 1);
	}
	_exit(0);
}

static int open_writer(long round)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0)
		fail("writer cannot open", round);
	return fd;
}

static void act(int *fd, enum action action, long round)
{
	char c = (char)round;
	if (action != CLOSE && write(*fd, &c, 1) != 1)
		fail("cannot write", round);
	if (action != APPEND) {
		if (close(*fd) != 0)
			fail("cannot close", round);
		*fd = -1;
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	file = argv[1];
	long rounds = atol(argv[2]);
	seed = strtoull(argv[3], NULL, 0);
	struct shared *shared = mmap(
		NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;

	int fd = open_writer(0);
	if (write(fd, "", 1) != 1)
		fail("cannot write", 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(fd);
		reader(shared, rounds);
	}
	for (long i = 0; i < rounds; i++) {
		if (fd < 0)
			fd = open_writer(i);
		atomic_store(&shared->go, i + 1);
		await(&shared->begun, i + 1, i, "the reader is gone");
		int64_t until = now_ns() + (int64_t)(mix(~seed ^ (uint64_t)i) % MAX_DELAY_NS);
		while (now_ns() < until)
			;
		act(&fd, action_of(seed, i), i);
		await(&shared->done, i + 1, i, "the reader is left waiting");
	}
	if (fd >= 0)
		close(fd);
	int status;
	waitpid(pid, &status, 0);
	return status != 0;
}
