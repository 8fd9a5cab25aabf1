/* SPDX-License-Identifier: MIT */
#include "fs/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

static bool memory_is_told; /* set before there are threads */

/*
 * move_pages(2) of no page, which looks for the memory of the process and waits for nothing
 * (mm/migrate.c). 0; -EINVAL: it has none.
 */
static int ask_for_memory(pid_t pid)
{
	return syscall(SYS_move_pages, pid, 0UL, NULL, NULL, NULL, 0) < 0 ? -errno : 0;
}

/* Believed where it is seen to tell a process that has ended from one that has not. */
void process_init(void)
{
	siginfo_t end;
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	if (child < 0 || waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT) < 0)
		return;
	memory_is_told = ask_for_memory(child) == -EINVAL && ask_for_memory(getpid()) == 0;
	(void)waitpid(child, NULL, 0); /* it has ended */
}

/* Reads /proc/PID/what; false and errno when it cannot be had. */
static bool read_proc(pid_t pid, const char *what, char *buf, size_t size)
{
	char path[32];
	autoclose int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (n <= 0)
		return false; /* a file of /proc is not empty */
	buf[n] = '\0';
	return true;
}

/*
 * A process that exits has no memory left when it closes. "statm" tells, and is safe to read:
 * "stat" waits for an execve(2) that is under way, and close-on-exec descriptors are closed within
 * it, so that it would wait for our answer. To be told by a system call costs an eighth of that.
 */
static bool has_memory(pid_t pid)
{
	int r = memory_is_told ? ask_for_memory(pid) : -EPERM;
	char text[128];

	if (r == 0 || r == -EINVAL)
		return r == 0;
	return !read_proc(pid, "statm", text, sizeof(text)) || strncmp(text, "0 ", 2) != 0;
}

bool process_is_failing(pid_t pid, bool status_counts, char *reason, size_t size)
{
	enum { FLAGS = 9, EXIT_CODE = 52, PF_EXITING = 4 }; /* proc_pid_stat(5) */
	char text[1024], *rest, *comm;
	unsigned long flags = 0;
	int status = 0, sig;

	if (has_memory(pid))
		return false;
	if (!read_proc(pid, "stat", text, sizeof(text))) {
		snprintf(reason, size, "writer %d ended, nobody knows how: %s", pid,
			strerror(errno));
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
	}
	comm = strchr(text, '(');
	rest = strrchr(text, ')');
	if (!comm || !rest)
		return false;
	*rest++ = '\0';
	for (int field = 2; (rest = strchr(rest, ' ')); rest++) {
		field++;
		if (field == FLAGS)
			flags = strtoul(rest + 1, NULL, 10);
		else if (field == EXIT_CODE)
			status = atoi(rest + 1);
	}
	if (!(flags & PF_EXITING) || !status)
		return false;
	sig = status & 0x7f;
	if (sig)
		snprintf(reason, size, "writer %d (%s) was killed by signal %d (%s)", pid, comm + 1,
			sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
	else
		snprintf(reason, size, "writer %d (%s) exited with status %d", pid, comm + 1,
			status >> 8 & 0xff);
	return sig || status_counts;
}

pid_t process_of(pid_t thread)
{
	char text[1024], *line;

	if (thread <= 0 || !read_proc(thread, "status", text, sizeof(text)))
		return 0;
	line = strstr(text, "\nTgid:");
	return line ? atoi(line + 6) : 0;
}

/* The number of its descriptor that a thread, which waits for an answer, reads from; -ENOENT: none.
 * -EAGAIN: it is still on its way to wait. */
static int reads_from(pid_t thread)
{
	char text[256] = "";
	int tries = 5, number;
	unsigned fd;

	/* "running": mostly it waits in a moment, or others keep it from the processor. */
	while (read_proc(thread, "syscall", text, sizeof(text)) && text[0] == 'r' && --tries)
		(void)usleep(50);
	if (!tries)
		return -EAGAIN;
	return sscanf(text, "%d %x", &number, &fd) == 2 && number == SYS_read ? (int)fd : -ENOENT;
}

int process_reads_events(pid_t thread)
{
	static const char fanotify[] = "anon_inode:[fanotify]";
	char path[64], target[sizeof(fanotify)];
	int fd = thread > 0 ? reads_from(thread) : -ENOENT;
	ssize_t n;

	if (fd < 0)
		return fd == -EAGAIN ? fd : 0;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", thread, fd);
	n = readlink(path, target, sizeof(target));
	return n == sizeof(fanotify) - 1 && !memcmp(target, fanotify, (size_t)n);
}

void process_command(pid_t pid, char *ret, size_t size)
{
	if (pid <= 0 || !read_proc(pid, "comm", ret, size))
		*ret = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}
