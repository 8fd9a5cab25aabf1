/* SPDX-License-Identifier: MIT */
/*
 * fanout PORT PATH FILE FOLLOWERS RECORDS SIZE HZ DECLARED
 *
 * FOLLOWERS clients GET a file while RECORDS records of SIZE bytes are appended to it, HZ of them
 * each second; all clients are one thread with epoll. The writer is a process that writes FILE;
 * with FILE "-" the server at PORT is asked to write. DECLARED 1: the size is announced first. Each
 * record begins with the time before its write(), and is taken when recv(2) returned its last byte.
 * Prints nanoseconds: p50 p99 max. HZ 0: as fast as possible; the clients throw the bytes away
 * unseen (MSG_TRUNC). Prints nanoseconds from the first write to the last client's end, and bytes
 * received.
 */
#include "http.h"

#include <sys/epoll.h>
#include <sys/xattr.h>

#define AHEAD 1 /* records that are there before anybody follows */

struct follower {
	int fd;
	struct answer answer;
	uint64_t stamp, position, received;
};

static unsigned long port, n_followers, n_records, size, hz;
static const char *path, *file;
static bool declared;
static struct follower *followers;
static uint64_t *delays, n_delays;

/* -- writing ---------------------------------------------------------------------------------- */

static void write_record(int fd, char *record)
{
	uint64_t now = now_ns();

	memcpy(record, &now, sizeof(now));
	must_write(fd, record, size);
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
		;
}

static void write_file(int ready, int go)
{
	int fd = must_open(file, O_WRONLY | O_CREAT | O_TRUNC);
	char *record = calloc(1, size), text[32];
	uint64_t start;

	snprintf(text, sizeof(text), "%lu", n_records * size);
	if (!record || (declared && fsetxattr(fd, "user.rww.size", text, strlen(text), 0)))
		die("declare");
	for (unsigned long i = 0; i < AHEAD; i++)
		write_record(fd, record);
	must_write(ready, "", 1);
	if (read(go, text, 1) != 1)
		die("go");
	start = now_ns();
	for (unsigned long i = AHEAD; i < n_records; i++) {
		if (hz)
			sleep_until(start + (i - AHEAD) * 1000000000u / hz);
		write_record(fd, record);
	}
	if (close(fd))
		die("close");
}

static void ask(const char *what)
{
	char target[512];
	struct answer answer = {0};
	int fd = http_connect(port);

	snprintf(target, sizeof(target),
		"%s?do=%s&records=%lu&size=%lu&hz=%lu&declared=%d&ahead=%d", path, what, n_records,
		size, hz, declared, AHEAD);
	http_send(fd, "POST", target, true);
	answer_await(&answer, fd, UINT64_MAX);
	close(fd);
}

static void ask_to_write(int ready, int go)
{
	char c;

	ask("open");
	must_write(ready, "", 1);
	if (read(go, &c, 1) != 1)
		die("go");
	ask("write");
}

/* -- following -------------------------------------------------------------------------------- */

static void take(void *cls, const char *data, size_t n)
{
	struct follower *f = cls;

	while (n) {
		uint64_t at = f->position % size;
		size_t piece = at + n > size ? (size_t)(size - at) : n;

		if (at < sizeof(f->stamp)) {
			size_t part = sizeof(f->stamp) - (size_t)at;

			memcpy((char *)&f->stamp + at, data, part < piece ? part : piece);
		}
		f->position += piece;
		if (at + piece == size && f->position > AHEAD * size)
			delays[n_delays++] = now_ns() - f->stamp;
		data += piece;
		n -= piece;
	}
}

/* False at the end. */
static bool follow(struct follower *f)
{
	static char buf[262144];
	ssize_t n = recv(f->fd, buf, sizeof(buf), hz ? 0 : MSG_TRUNC);

	if (n < 0)
		die("recv");
	f->received += (uint64_t)n;
	if (hz && n > 0)
		answer_feed(&f->answer, buf, (size_t)n, take, f);
	return hz ? n > 0 && !f->answer.ended : n > 0;
}

static void begin(int epoll)
{
	for (unsigned long i = 0; i < n_followers; i++) {
		struct follower *f = &followers[i];
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = f};

		f->fd = http_connect(port);
		http_send(f->fd, "GET", path, !hz);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, f->fd, &event))
			die("epoll_ctl");
	}
	for (unsigned long i = 0; i < n_followers; i++)
		while (followers[i].received < AHEAD * size)
			if (!follow(&followers[i]))
				die("a follower ended early");
}

static void follow_all(int epoll)
{
	struct epoll_event events[64];
	unsigned long left = n_followers;

	while (left) {
		int n = epoll_wait(epoll, events, 64, 20000);

		if (n <= 0)
			die("%lu followers still wait", left);
		for (int i = 0; i < n; i++) {
			struct follower *f = events[i].data.ptr;

			if (follow(f))
				continue;
			close(f->fd);
			left--;
		}
	}
}

static void print_delays(void)
{
	errno = 0;
	if (n_delays != n_followers * (n_records - AHEAD))
		die("%lu records arrived", (unsigned long)n_delays);
	qsort(delays, n_delays, sizeof(*delays), compare_u64);
	printf("%lu %lu %lu\n", (unsigned long)delays[n_delays / 2],
		(unsigned long)delays[n_delays * 99 / 100], (unsigned long)delays[n_delays - 1]);
}

static void print_bytes(uint64_t ns)
{
	uint64_t bytes = 0;

	for (unsigned long i = 0; i < n_followers; i++) {
		errno = 0;
		if (followers[i].received < n_records * size)
			die("a follower got %lu bytes", (unsigned long)followers[i].received);
		bytes += followers[i].received;
	}
	printf("%lu %lu\n", (unsigned long)ns, (unsigned long)bytes);
}

int main(int argc, char **argv)
{
	int ready[2], go[2], epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t start;
	pid_t writer;
	char c;

	errno = EINVAL;
	if (argc != 9)
		die("fanout: 8 arguments");
	die_with_parent();
	all_descriptors();
	port = number(argv[1]);
	path = argv[2];
	file = argv[3];
	n_followers = number(argv[4]);
	n_records = number(argv[5]);
	size = number(argv[6]);
	hz = number(argv[7]);
	declared = number(argv[8]);
	followers = calloc(n_followers, sizeof(*followers));
	delays = calloc(n_followers * n_records, sizeof(*delays));
	if (epoll < 0 || !followers || !delays || pipe(ready) || pipe(go))
		die("memory");
	writer = fork_child();
	if (!writer) {
		(strcmp(file, "-") ? write_file : ask_to_write)(ready[1], go[0]);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		die("the writer");
	begin(epoll);
	start = now_ns();
	must_write(go[1], "", 1);
	follow_all(epoll);
	start = now_ns() - start;
	end_child(writer);
	if (hz)
		print_delays();
	else
		print_bytes(start);
	return 0;
}
