/* SPDX-License-Identifier: MIT */
#include "httpd/client.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

void clients_init(struct clients *c)
{
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->judged, NULL);
	list_init(&c->all);
	c->count = 0;
	c->asked = NULL;
}

void clients_destroy(struct clients *c)
{
	pthread_cond_destroy(&c->judged);
	pthread_mutex_destroy(&c->lock);
}

static void address_text(int socket, char *buf, size_t size)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage any;
	} peer = {0};
	socklen_t len = sizeof(peer);

	snprintf(buf, size, "-");
	if (getpeername(socket, &peer.sa, &len))
		return;
	if (peer.sa.sa_family == AF_INET)
		(void)inet_ntop(AF_INET, &peer.in.sin_addr, buf, (socklen_t)size); /* it fits */
	else if (peer.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&peer.in6.sin6_addr))
		(void)inet_ntop(AF_INET, &peer.in6.sin6_addr.s6_addr[12], buf, (socklen_t)size);
	else if (peer.sa.sa_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &peer.in6.sin6_addr, buf, (socklen_t)size);
}

struct client *client_new(struct clients *c, struct follow *f, struct worker *worker, int socket,
	uint64_t deadline_ms)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->socket = socket;
	client->deadline_ms = deadline_ms;
	client->idle = true;
	client->between = true;
	address_text(socket, client->address, sizeof(client->address));
	peer_init(&client->peer, f, worker, socket);
	SCOPED_LOCK(&c->lock);
	list_add_tail(&c->all, &client->entry);
	c->count++;
	return client;
}

void client_free(struct clients *c, struct client *client)
{
	peer_done(&client->peer);
	{
		SCOPED_LOCK(&c->lock);
		list_del(&client->entry);
		c->count--;
	}
	free(client);
}

void client_expect_header(struct clients *c, struct client *client, uint64_t deadline_ms, bool idle)
{
	SCOPED_LOCK(&c->lock);
	client->deadline_ms = deadline_ms;
	client->idle = idle;
}

static bool is_late_locked(const struct client *client, uint64_t now_ms)
{
	return client->deadline_ms && client->deadline_ms <= now_ms;
}

bool client_is_late(struct clients *c, const struct client *client, uint64_t now_ms)
{
	SCOPED_LOCK(&c->lock);
	return is_late_locked(client, now_ms);
}

void client_set_body(
	struct clients *c, struct client *client, const struct resource *body, uint64_t end)
{
	SCOPED_LOCK(&c->lock);
	client->body = NULL; /* what is found now is about a body that is through */
	while (c->asked == client)
		pthread_cond_wait(&c->judged, &c->lock);
	client->body = body;
	client->body_end = end;
	client->body_cut = false;
	client->body_doubts = 0;
}

bool client_body_was_cut(struct clients *c, const struct client *client)
{
	SCOPED_LOCK(&c->lock);
	return client->body_cut;
}

/* With a linger time of 0 (socket(7)) the kernel, too, makes a reset of a close, also when it
 * closes for a process that was killed. */
void client_set_close_delimited(struct clients *c, struct client *client, bool yes)
{
	struct linger linger = {.l_onoff = yes};

	(void)setsockopt(client->socket, SOL_SOCKET, SO_LINGER, &linger,
		sizeof(linger)); /* cannot fail for a socket */
	SCOPED_LOCK(&c->lock);
	client->close_delimited = yes;
}

void clients_cut(struct clients *c)
{
	SCOPED_LOCK(&c->lock);
	list_for_each (it, &c->all) {
		struct client *client = list_entry(it, struct client, entry);

		if (client->close_delimited)
			client_reset(client->socket);
	}
}

/* libmicrohttpd waits for the socket when sendfile(2) moves nothing, which it does for ever at
 * the end of a file that shrank. Only then is the file asked, which may be slow. One that was cut
 * on a mount, and perhaps written anew, is no longer the one that was promised. */
static bool body_is_missing(int socket, const struct resource *body, uint64_t end, unsigned *doubts)
{
	struct stat st;

	if (resource_was_cut(body, doubts) > 0)
		return true;
	return !client_unsent(socket) && !fstat(body->fd, &st) && (uint64_t)st.st_size < end;
}

/* The lock is let go of meanwhile: there may be thousands to look at, or a mount that does not
 * answer, and every request needs it. */
static void judge_body_locked(struct clients *c, struct client *client)
{
	const struct resource *body = client->body;
	uint64_t end = client->body_end;
	bool missing;

	c->asked = client;
	pthread_mutex_unlock(&c->lock);
	missing = body_is_missing(client->socket, body, end, &client->body_doubts);
	pthread_mutex_lock(&c->lock);
	client->body_cut |= missing && client->body == body;
	c->asked = NULL;
	pthread_cond_broadcast(&c->judged);
}

/* The follow thread has told the library that nothing more comes (peer_event_locked()). It may have
 * read the last data only then, and is told again. */
static void client_nudge(const struct client *client)
{
	if (atomic_load(&client->peer.gone))
		(void)shutdown(client->socket, SHUT_RD); /* it may have gone by itself */
}

void clients_reap(struct clients *c, uint64_t now_ms, bool idle_too)
{
	SCOPED_LOCK(&c->lock);
	list_for_each (it, &c->all) {
		struct client *client = list_entry(it, struct client, entry);

		client_nudge(client);
		if (client->body)
			judge_body_locked(c, client);
		if (is_late_locked(client, now_ms) || (idle_too && client->idle) ||
			client->body_cut)
			(void)shutdown(client->socket, SHUT_RDWR); /* it may have gone by itself */
	}
}

unsigned clients_count(struct clients *c)
{
	SCOPED_LOCK(&c->lock);
	return c->count;
}

/* libmicrohttpd calls shutdown(2) before close(2), so SO_LINGER would come too late: the FIN would
 * be on its way. Dissolving the association makes Linux send the reset (tcp_disconnect()). Not by
 * connect(), which ThreadSanitizer takes for the birth of a socket that nobody else may know yet.
 */
void client_reset(int socket)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	(void)syscall(SYS_connect, socket, &sa, sizeof(sa)); /* the close that follows is as good */
}

void client_drain(int socket)
{
	char buf[4096];

	for (int i = 0; i < 16 && recv(socket, buf, sizeof(buf), MSG_DONTWAIT) > 0; i++)
		;
}

void client_shut(int socket)
{
	(void)shutdown(socket, SHUT_RDWR); /* it may have gone by itself */
}

void client_end(int socket)
{
	(void)shutdown(socket, SHUT_WR); /* likewise */
}

unsigned client_unsent(int socket)
{
	int n = 0;

	return ioctl(socket, SIOCOUTQ, &n) || n < 0 ? 0 : (unsigned)n;
}

static struct tcp_info tcp_info_of(int socket)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	(void)getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &len); /* no TCP: all is 0 */
	return info;
}

uint64_t client_arrived(int socket)
{
	return tcp_info_of(socket).tcpi_bytes_acked;
}

uint64_t client_heard(const struct client *client)
{
	if (client->encrypted)
		return tls_heard(&client->tls);
	return tcp_info_of(client->socket).tcpi_bytes_received;
}

bool client_heard_more(struct client *client)
{
	if (client->encrypted && !tls_at_end(&client->tls))
		return client_heard(client) > client->heard;
	/* the end counts as one */
	return client_heard(client) > client->heard + 1;
}

uint64_t client_said(const struct client *client)
{
	struct tcp_info info;

	if (client->encrypted)
		return tls_said(&client->tls);
	info = tcp_info_of(client->socket);
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

bool client_said_more(const struct client *client)
{
	/* the end may count as one, and is no record */
	return client_said(client) > client->said + !client->encrypted;
}

uint64_t client_quiet_ms(int socket)
{
	return tcp_info_of(socket).tcpi_last_data_recv;
}

/* tcp(7): setting TCP_NODELAY flushes even what TCP_CORK or MSG_MORE holds back. */
void client_flush(int socket)
{
	(void)setsockopt(
		socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* only slower */
}

void client_limit_unsent(int socket)
{
	(void)setsockopt(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){CLIENT_UNSENT},
		sizeof(int)); /* likewise */
}
