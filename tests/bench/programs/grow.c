/* SPDX-License-Identifier: MIT */
/*
 * grow DIR FILES PROCESSES RATE SECONDS
 *
 * FILES growing files, each appended to RATE times a second at even distances by one process, each
 * read along by a thread of its own in one of PROCESSES others. Prints "measure" after two seconds
 * and "measured" SECONDS later, then "delay P50 P99 MAX": nanoseconds from before write() to the
 * return of the read() that delivered it, and "late P99": how far the writer was behind its own
 * timetable. Every follower must get every byte.
 */
#include "bench.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#define RECORD 100

struct shared {
	sem_t ready;
	_Atomic uint64_t n_delays;
	uint64_t max_delays;
	uint64_t delays[];
};

static struct shared *shared;
static const char *dir;
static unsigned long n_files, per_process;

static void path_of(unsigned long i, char *ret, size_t size)
{
	snprintf(ret, size, "%s/grow-%lu", dir, i);
}

static void *follower(void *arg)
{
	char path[512], buf[RECORD * 20];
	uint64_t stamp, now, at, got = 0;
	int fd;
	ssize_t n;

	path_of((unsigned long)(uintptr_t)arg, path, sizeof(path));
	fd = must_open(path, O_RDONLY);
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		now = now_ns();
		if (got == 0)
			sem_post(&shared->ready);
		got += (uint64_t)n;
		if (n % RECORD)
			continue;
		memcpy(&stamp, buf, sizeof(stamp));
		at = shared->n_delays++;
		if (at < shared->max_delays)
			shared->delays[at] = now - stamp;
	}
	memcpy(&stamp, buf, sizeof(stamp));
	if (n < 0)
		die("read %s", path);
	if (lseek(fd, 0, SEEK_END) != (off_t)got)
		die("%s: read %lu bytes", path, (unsigned long)got);
	close(fd);
	return NULL;
}

static void run_followers(unsigned long first)
{
	pthread_t *threads = calloc(per_process, sizeof(*threads));
	pthread_attr_t attr;

	all_descriptors();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 32768);
	for (unsigned long i = 0; i < per_process; i++) {
		errno = pthread_create(
			&threads[i], &attr, follower, (void *)(uintptr_t)(first + i));
		if (errno)
			die("thread %lu", i);
	}
	for (unsigned long i = 0; i < per_process; i++)
		pthread_join(threads[i], NULL);
}

static void append(int fd)
{
	char record[RECORD];
	uint64_t stamp = now_ns();

	memset(record, 'x', sizeof(record));
	memcpy(record, &stamp, sizeof(stamp));
	must_write(fd, record, sizeof(record));
}

/* Appends on a timetable until end; how late the last of each file was goes to late. */
static void pace(const int *fds, uint64_t step, uint64_t start, uint64_t end, uint64_t *late)
{
	unsigned long i = 0;

	for (uint64_t due = start; due < end; due += step) {
		uint64_t now = now_ns();

		if (now < due)
			sleep_ns(due - now);
		append(fds[i]);
		now = now_ns();
		late[i] = now > due ? now - due : 0;
		i = (i + 1) % n_files;
	}
}

static void report(const char *what, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), compare_u64);
	printf("%s %lu %lu %lu\n", what, (unsigned long)ns[n / 2], (unsigned long)ns[n * 99 / 100],
		(unsigned long)ns[n - 1]);
}

static void start_followers(unsigned long processes, pid_t *pids)
{
	for (unsigned long p = 0; p < processes; p++)
		if ((pids[p] = fork_child()) == 0) {
			close_range(3, ~0u, 0); /* the writer's */
			run_followers(p * per_process);
			_exit(0);
		}
	for (unsigned long n = n_files; n;)
		if (sem_wait(&shared->ready) == 0)
			n--;
}

int main(int argc, char **argv)
{
	unsigned long processes, rate, seconds;
	uint64_t step, start, *late;
	char path[512];
	pid_t *pids;
	int *fds;

	errno = EINVAL;
	if (argc != 6)
		die("grow: 5 arguments");
	die_with_parent();
	all_descriptors();
	dir = argv[1];
	n_files = number(argv[2]);
	processes = number(argv[3]);
	rate = number(argv[4]);
	seconds = number(argv[5]);
	per_process = n_files / processes;
	n_files = per_process * processes;
	shared = mmap(NULL, sizeof(*shared) + n_files * rate * (seconds + 3) * sizeof(uint64_t),
		PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fds = calloc(n_files, sizeof(*fds));
	pids = calloc(processes, sizeof(*pids));
	late = calloc(n_files, sizeof(*late));
	if (shared == MAP_FAILED || !fds || !pids || !late)
		die("memory");
	shared->max_delays = 0; /* not yet */
	sem_init(&shared->ready, 1, 0);
	for (unsigned long i = 0; i < n_files; i++) {
		path_of(i, path, sizeof(path));
		fds[i] = must_open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
		append(fds[i]);
	}
	start_followers(processes, pids);

	step = 1000000000u / (n_files * rate);
	start = now_ns();
	pace(fds, step, start, start + 2000000000u, late);
	shared->n_delays = 0;
	shared->max_delays = n_files * rate * (seconds + 3);
	printf("measure\n");
	fflush(stdout);
	start = now_ns();
	pace(fds, step, start, start + seconds * 1000000000u, late);
	printf("measured\n");
	fflush(stdout);
	for (unsigned long i = 0; i < n_files; i++)
		if (close(fds[i]) < 0)
			die("close");
	for (unsigned long p = 0; p < processes; p++)
		end_child(pids[p]);
	if (shared->n_delays > shared->max_delays)
		shared->n_delays = shared->max_delays;
	report("delay", shared->delays, shared->n_delays);
	report("late", late, n_files);
	for (unsigned long i = 0; i < n_files; i++) {
		path_of(i, path, sizeof(path));
		unlink(path);
	}
	return 0;
}
