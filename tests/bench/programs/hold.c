/* SPDX-License-Identifier: MIT */
/*
 * hold PROCESSES THREADS FILE...
 *
 * THREADS threads in each of PROCESSES processes open one of the files each, and read what is
 * there. Prints "opened"; after a line on stdin all of them read on, which is held; after something
 * was written to the files prints "woke FIRST MEDIAN LAST": when their reads returned, in
 * nanoseconds of CLOCK_MONOTONIC.
 */
#include "bench.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

struct shared {
	sem_t opened, go, done, leave;
	uint64_t woke[];
};

static struct shared *shared;
static char **files;
static unsigned long n_files, n_threads;

static void *reader(void *arg)
{
	unsigned long me = (unsigned long)(uintptr_t)arg;
	const char *path = files[me % n_files];
	int fd = must_open(path, O_RDONLY);
	char buf[64];

	if (read(fd, buf, sizeof(buf)) <= 0)
		die("read %s", path);
	sem_post(&shared->opened);
	while (sem_wait(&shared->go) < 0)
		;
	if (read(fd, buf, sizeof(buf)) <= 0)
		die("held read %s", path);
	shared->woke[me] = now_ns();
	sem_post(&shared->done);
	while (sem_wait(&shared->leave) < 0)
		;
	close(fd);
	return NULL;
}

static void run_threads(unsigned long first)
{
	pthread_t *threads = calloc(n_threads, sizeof(*threads));
	pthread_attr_t attr;

	all_descriptors();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16384);
	pthread_attr_setguardsize(&attr, 0);
	for (unsigned long i = 0; i < n_threads; i++) {
		errno = pthread_create(&threads[i], &attr, reader, (void *)(uintptr_t)(first + i));
		if (errno)
			die("thread %lu", i);
	}
	for (unsigned long i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

static void wait_n(sem_t *sem, unsigned long n)
{
	while (n)
		if (sem_wait(sem) == 0)
			n--;
}

int main(int argc, char **argv)
{
	unsigned long n_processes, n;
	size_t bytes;
	pid_t *pids;

	errno = EINVAL;
	if (argc < 4)
		die("hold: 3 arguments");
	die_with_parent();
	n_processes = number(argv[1]);
	n_threads = number(argv[2]);
	files = argv + 3;
	n_files = (unsigned long)argc - 3;
	n = n_processes * n_threads;
	bytes = sizeof(*shared) + n * sizeof(uint64_t);
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pids = calloc(n_processes, sizeof(*pids));
	if (shared == MAP_FAILED || !pids)
		die("memory");
	sem_init(&shared->opened, 1, 0);
	sem_init(&shared->go, 1, 0);
	sem_init(&shared->done, 1, 0);
	sem_init(&shared->leave, 1, 0);
	for (unsigned long p = 0; p < n_processes; p++)
		if ((pids[p] = fork_child()) == 0) {
			run_threads(p * n_threads);
			_exit(0);
		}
	wait_n(&shared->opened, n);
	printf("opened\n");
	await_line();
	for (unsigned long i = 0; i < n; i++)
		sem_post(&shared->go);
	wait_n(&shared->done, n);
	qsort(shared->woke, n, sizeof(uint64_t), compare_u64);
	printf("woke %lu %lu %lu\n", (unsigned long)shared->woke[0],
		(unsigned long)shared->woke[n / 2], (unsigned long)shared->woke[n - 1]);
	await_line();
	for (unsigned long i = 0; i < n; i++)
		sem_post(&shared->leave);
	for (unsigned long p = 0; p < n_processes; p++)
		end_child(pids[p]);
	return 0;
}
