/* SPDX-License-Identifier: MIT */
/*
 * An HTTP/1.1 client of 127.0.0.1 that knows as much as these benches need: GET, a body with
 * Content-Length, chunked or ended by the connection.
 */
#ifndef HTTP_H
#define HTTP_H

#include "bench.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/socket.h>

INLINE int http_connect(unsigned long port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		die("connect to port %lu", port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	return fd;
}

INLINE void http_send(int fd, const char *method, const char *path, bool last)
{
	char text[1024];
	int n = snprintf(text, sizeof(text),
		"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n%s\r\n", method, path,
		last ? "Connection: close\r\n" : "");

	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		die("send");
}

/* One answer, fed with what the socket gives. */
struct answer {
	char line[512];
	size_t line_len;
	bool chunked, in_body, ended;
	uint64_t left; /* of the chunk, or of the body */
	uint64_t body; /* bytes of it so far */
};

INLINE void answer_line(struct answer *a)
{
	a->line[a->line_len] = '\0';
	if (a->in_body) { /* a chunk's size, or the line's end behind a chunk */
		char *end;

		if (!a->line_len)
			return;
		a->left = strtoull(a->line, &end, 16);
		a->ended = !a->left;
	} else if (!strncmp(a->line, "HTTP/1.1 ", 9)) {
		errno = 0;
		if (strncmp(a->line + 9, "20", 2))
			die("'%s'", a->line);
		a->left = UINT64_MAX;
	} else if (!strncasecmp(a->line, "Content-Length:", 15)) {
		a->left = strtoull(a->line + 15, NULL, 10);
	} else if (!strncasecmp(a->line, "Transfer-Encoding: chunked", 26)) {
		a->chunked = true;
		a->left = 0;
	} else if (!a->line_len) {
		a->in_body = true;
		a->ended = !a->chunked && !a->left;
	}
	a->line_len = 0;
}

/* Calls fn for each piece of the body. */
INLINE void answer_feed(struct answer *a, const char *data, size_t n,
	void (*fn)(void *cls, const char *data, size_t n), void *cls)
{
	while (n && !a->ended) {
		size_t take = 1;

		if (a->in_body && a->left) {
			take = a->left < n ? (size_t)a->left : n;
			fn(cls, data, take);
			a->body += take;
			a->left -= take;
			a->ended = !a->left && !a->chunked;
		} else if (*data == '\n') {
			answer_line(a);
		} else if (*data != '\r' && a->line_len + 1 < sizeof(a->line)) {
			a->line[a->line_len++] = *data;
		}
		data += take;
		n -= take;
	}
}

INLINE void ignore(void *cls, const char *data, size_t n)
{
}

/* Receives until at least so many bytes of the body are there, or its end. */
INLINE void answer_await(struct answer *a, int fd, uint64_t bytes)
{
	char buf[4096];

	while (!a->ended && a->body < bytes) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n <= 0)
			die("recv gave %zd", n);
		answer_feed(a, buf, (size_t)n, ignore, NULL);
	}
}

#endif
