// SPDX-License-Identifier: MIT
// Held readers that are killed around the moment in which they start to wait.
//
// killed FILE CYCLES SEED: FILE is growing. Prints how the readers ended.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_S = 20, MAX_DELAY_NS = 150000 };
enum { INTERRUPTED = 10, ANSWERED = 11, FAILED = 12 };

static _Atomic int *begun;

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint64_t draw(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
	(void)sig;
	caught = 1;
}

// With a handler the read ends with EINTR, unless the signal came before it; a second one then ends
// it.
static _Noreturn void reader(const char *path, int sig, int handled)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct sigaction action = {
		.sa_handler = handled ? on_signal : SIG_DFL, .sa_flags = SA_RESTART};
	sigaction(sig, &action, NULL);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		_exit(FAILED);
	atomic_store(begun, 1);
	char c;
	ssize_t got = pread(fd, &c, 1, 1 << 30);
	if (got >= 0)
		_exit(ANSWERED);
	_exit(errno == EINTR && caught ? INTERRUPTED : FAILED);
}

static int reap(pid_t pid, int sig, long cycle)
{
	int status;
	int64_t deadline = now_ns() + DEADLINE_S * 1000000000ll, again = now_ns() + 20000000;
	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);
		if (got == pid)
			return status;
		if (now_ns() > deadline) {
			fprintf(stderr, "cycle %ld: reader %d survives signal %d\n", cycle, pid,
				sig);
			exit(1);
		}
		if (now_ns() > again) { // the handler ran before the read began
			kill(pid, sig);
			again = now_ns() + 20000000;
		}
		sched_yield();
	}
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGKILL, SIGINT, SIGALRM};
	if (argc != 4)
		return 2;
	long cycles = atol(argv[2]), killed = 0, interrupted = 0;
	uint64_t state = strtoull(argv[3], NULL, 0);
	begun = mmap(
		NULL, sizeof *begun, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (begun == MAP_FAILED)
		return 2;

	for (long i = 0; i < cycles; i++) {
		int sig = signals[draw(&state) % 3], handled = sig != SIGKILL && draw(&state) % 2;
		atomic_store(begun, 0);
		pid_t pid = fork();
		if (pid == 0)
			reader(argv[1], sig, handled);
		while (!atomic_load(begun))
			sched_yield();
		int64_t until = now_ns() + (int64_t)(draw(&state) % MAX_DELAY_NS);
		while (now_ns() < until)
			;
		kill(pid, sig);
		int status = reap(pid, sig, i);
		if (WIFSIGNALED(status) && WTERMSIG(status) == sig) {
			killed++;
		} else if (WIFEXITED(status) && WEXITSTATUS(status) == INTERRUPTED) {
			interrupted++;
		} else {
			fprintf(stderr, "cycle %ld: signal %d, wait status %#x\n", i, sig, status);
			return 1;
		}
	}
	printf("%ld killed %ld interrupted\n", killed, interrupted);
	return 0;
}
