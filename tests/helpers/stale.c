// SPDX-License-Identifier: MIT
// A file that is appended to while readers who opened it when it was complete read its end without
// a pause: what they find wrong is to be right when they ask again. Once it may be wrong: the
// kernel looks at the size of a file after it has found the page (mm/filemap.c, filemap_read()).
//
// stale FILE ROUNDS SEED: prints how many reads were wrong once.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READERS = 6, FIRST = 100, FULL = 60000, MAX_PIECE = 1400, TAIL = 3000 };

struct shared {
	_Atomic int ready; // readers who have begun to read
	_Atomic bool over;
	_Atomic long wrong_once, wrong_again;
};

static struct shared *shared;

static void fail(const char *what)
{
	fprintf(stderr, "stale: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t draw(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void check(int fd, off_t at, const char *buf, ssize_t n)
{
	const char *zero = memchr(buf, '\0', (size_t)n);
	char again = '\0';

	if (!zero)
		return;
	at += zero - buf;
	// No end of it in between: that byte was there.
	if (pread(fd, &again, 1, at) == 1 && again == 'x') {
		atomic_fetch_add(&shared->wrong_once, 1);
		return;
	}
	atomic_fetch_add(&shared->wrong_again, 1);
	fprintf(stderr, "stale: zeros at %lld stay\n", (long long)at);
}

static void read_the_end(const char *file, uint64_t seed)
{
	char buf[TAIL];
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("open");
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->over)) {
		if (fstat(fd, &st) < 0)
			fail("fstat");
		off_t at = st.st_size - TAIL + (off_t)(draw(&seed) % TAIL);
		if (at < 0)
			at = 0;
		ssize_t n = pread(fd, buf, sizeof buf, at);
		if (n < 0)
			fail("pread");
		check(fd, at, buf, n);
	}
	_exit(0);
}

static void append(int fd, const char *bytes, size_t n)
{
	if (write(fd, bytes, n) != (ssize_t)n)
		fail("write");
}

static void play(const char *file, uint64_t seed)
{
	static char bytes[MAX_PIECE];
	pid_t readers[READERS];
	int fd;

	memset(bytes, 'x', sizeof bytes);
	if (unlink(file) < 0 && errno != ENOENT)
		fail("unlink");
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		fail("create");
	append(fd, bytes, FIRST);
	close(fd);
	atomic_store(&shared->ready, 0);
	atomic_store(&shared->over, false);
	for (int i = 0; i < READERS; i++) {
		readers[i] = fork();
		if (readers[i] < 0)
			fail("fork");
		if (readers[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			read_the_end(file, draw(&seed) + (uint64_t)i);
		}
	}
	while (atomic_load(&shared->ready) < READERS)
		usleep(100);
	fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		fail("open for appending");
	for (size_t size = FIRST, n; size < FULL; size += n) {
		n = 1 + draw(&seed) % MAX_PIECE;
		append(fd, bytes, n);
	}
	atomic_store(&shared->over, true);
	close(fd);
	for (int i = 0; i < READERS; i++) {
		int status;
		if (waitpid(readers[i], &status, 0) < 0 || status != 0)
			fail("a reader");
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	shared = mmap(
		NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("mmap");
	uint64_t seed = strtoull(argv[3], NULL, 10);
	for (long rounds = atol(argv[2]); rounds > 0; rounds--)
		play(argv[1], draw(&seed));
	printf("%ld wrong once, %ld that stayed\n", atomic_load(&shared->wrong_once),
		atomic_load(&shared->wrong_again));
	return atomic_load(&shared->wrong_again) != 0;
}
