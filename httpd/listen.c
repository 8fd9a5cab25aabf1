/* SPDX-License-Identifier: MIT */
#include "httpd/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/parse.h"

#define BACKLOG 4096

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* "[::1]:80", "127.0.0.1:80", "name:80", ":80" (everywhere). */
static int split(const char *text, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(text, ':');
	size_t len;

	if (!colon || !colon[1])
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return -EINVAL;
	}
	if (len >= size)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	*port = colon + 1;
	return 0;
}

/* Of too large a number getaddrinfo(3) takes the low 16 bits. */
static bool port_is_too_large(const char *port)
{
	uint64_t n;
	int r = parse_u64(port, &n);

	return r == -ERANGE || (r == 0 && n > UINT16_MAX);
}

static bool is_loopback(const union address *a)
{
	if (a->sa.sa_family == AF_INET)
		return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
	return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

static int describe(struct listener *l)
{
	union address a = {0};
	socklen_t len = sizeof(a);
	char text[INET6_ADDRSTRLEN];

	if (getsockname(l->fd, &a.sa, &len))
		return -errno;
	l->loopback = is_loopback(&a);
	if (a.sa.sa_family == AF_INET && inet_ntop(AF_INET, &a.in.sin_addr, text, sizeof(text)))
		snprintf(l->address, sizeof(l->address), "%s:%u", text, ntohs(a.in.sin_port));
	else if (a.sa.sa_family == AF_INET6 &&
		 inet_ntop(AF_INET6, &a.in6.sin6_addr, text, sizeof(text)))
		snprintf(l->address, sizeof(l->address), "[%s]:%u", text, ntohs(a.in6.sin6_port));
	else
		return -EAFNOSUPPORT;
	return 0;
}

static int bind_one(const struct addrinfo *ai, bool everywhere)
{
	autoclose int fd = socket(
		ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) ||
		(everywhere && ai->ai_family == AF_INET6 &&
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int))) ||
		bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG))
		return -errno;
	return steal_fd(&fd);
}

static int add(int fd, struct listener *all, unsigned *count)
{
	if (fd < 0)
		return fd;
	all[*count].fd = fd;
	return describe(&all[(*count)++]);
}

/* IPv6, which takes IPv4 too, or where the kernel has none, IPv4. */
static int add_everywhere(const struct addrinfo *found, struct listener *all, unsigned *count)
{
	int r = -EAFNOSUPPORT;

	for (const struct addrinfo *ai = found; ai; ai = ai->ai_next)
		if (ai->ai_family == AF_INET6)
			r = bind_one(ai, true);
	return add(r == -EAFNOSUPPORT ? bind_one(found, true) : r, all, count);
}

/* A name may have addresses of a family that this machine does not speak. */
static int add_each(const struct addrinfo *ai, struct listener *all, unsigned max, unsigned *count)
{
	unsigned before = *count;
	int r = -E2BIG;

	for (; ai && *count < max; ai = ai->ai_next) {
		r = add(bind_one(ai, false), all, count);
		if (r < 0 && r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL)
			return r;
	}
	return *count > before ? 0 : r;
}

int listen_on(const char *address, struct listener *all, unsigned max, unsigned *count)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
	char host[256];
	const char *port;
	int r;

	if (split(address, host, sizeof(host), &port) < 0 || port_is_too_large(port))
		r = EAI_SERVICE;
	else
		r = getaddrinfo(*host ? host : NULL, port, &hints, &ai);
	if (r) {
		log_error("cannot listen on '%s': %s", address,
			r == EAI_SERVICE ? "expected ADDRESS:PORT, as in 127.0.0.1:8080 or [::]:80"
					 : gai_strerror(r));
		return -EINVAL;
	}
	r = *host ? add_each(ai, all, max, count) : add_everywhere(ai, all, count);
	freeaddrinfo(ai);
	if (r < 0)
		log_error("cannot listen on '%s': %s", address, strerror(-r));
	return r;
}

static bool is_listening(int fd)
{
	int yes = 0;
	socklen_t len = sizeof(yes);

	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) && yes;
}

/* systemd.socket(5): with Accept=yes it is a connection, with ListenDatagram= neither. */
int listen_inherited(int fd, struct listener *ret)
{
	int r;

	ret->fd = fd;
	ret->inherited = true;
	if (!is_listening(fd)) {
		log_error("the inherited socket %d cannot be used: it takes no connections", fd);
		return -EINVAL;
	}
	r = fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno : describe(ret);
	if (r < 0)
		log_error("the inherited socket %d cannot be used: %s", fd, strerror(-r));
	return r;
}
