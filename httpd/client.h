/* SPDX-License-Identifier: MIT */
/*
 * The connections: address, and the deadline by which the header of a request must have come.
 * libmicrohttpd only knows a time without any byte; one byte every few seconds would hold a
 * connection for ever. clients_reap() shuts such sockets down, the library does the rest.
 * Any thread; one lock.
 */
#ifndef HTTPD_CLIENT_H
#define HTTPD_CLIENT_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "httpd/follow.h"
#include "httpd/resource.h"
#include "httpd/tls.h"

struct clients {
	pthread_mutex_t lock;
	pthread_cond_t judged;
	struct list all;      /* lock */
	unsigned count;       /* lock */
	struct client *asked; /* whose body clients_reap() looks at without the lock; lock */
};

struct client {
	struct list entry; /* clients->lock */
	int socket;
	struct peer peer;     /* follow.h */
	uint64_t deadline_ms; /* for the header, 0 while a request is answered; clients->lock */
	bool idle;            /* between requests; clients->lock */
	/* Whose bytes the kernel sends, NULL: none; clients->lock, and stays while it is asked. */
	const struct resource *body;
	uint64_t body_end;    /* its size must not become less; likewise */
	bool body_cut;        /* it did, or the like; clients->lock */
	unsigned body_doubts; /* see resource_was_cut(); who looks, and nobody else meanwhile */
	bool close_delimited; /* a body runs that an orderly close would end; clients->lock */
	char address[INET6_ADDRSTRLEN];
	struct request *request; /* of now, or NULL; the worker's */
	/* For what comes and becomes no request; likewise. */
	struct tls_peer tls;
	bool encrypted;
	uint64_t heard; /* of client_heard(), what the requests were */
	uint64_t said;  /* of client_said(), what their answers were */
	bool between;   /* no request has begun since that one was answered, or at all */
};

void clients_init(struct clients *c);
void clients_destroy(struct clients *c);

/* NULL when out of memory. */
struct client *client_new(struct clients *c, struct follow *f, struct worker *worker, int socket,
	uint64_t deadline_ms);
void client_free(struct clients *c, struct client *client);

/* The header must be there by deadline_ms; 0: it is. */
void client_expect_header(
	struct clients *c, struct client *client, uint64_t deadline_ms, bool idle);

/* Whether its header is overdue. */
bool client_is_late(struct clients *c, const struct client *client, uint64_t now_ms);

/* The kernel sends from body, up to offset end; NULL: no longer. The caller keeps it open. */
void client_set_body(
	struct clients *c, struct client *client, const struct resource *body, uint64_t end);

/* Whether the body that was set last was found missing, and the client shut down. */
bool client_body_was_cut(struct clients *c, const struct client *client);

/* From now on, or no longer, only a reset tells the client that its answer was cut, be it by the
 * end of this process. */
void client_set_close_delimited(struct clients *c, struct client *client, bool yes);

/* Resets those, before the library closes them. */
void clients_cut(struct clients *c);

/* Shuts down those past their deadline, those whose file became too short for the Content-Length
 * they were promised, and with idle_too those between requests. Every now and then. */
void clients_reap(struct clients *c, uint64_t now_ms, bool idle_too);

unsigned clients_count(struct clients *c);

/* Ends the connection with a TCP reset instead of an orderly close. */
void client_reset(int socket);

/* Drops what came: a close before it is read would be a reset, which takes along what the client
 * has not got yet. */
void client_drain(int socket);

/* Nothing can be sent any more; what was sent before still arrives, and then the end. */
void client_shut(int socket);

/* Nothing more is sent; what was sent still arrives, and then the end. */
void client_end(int socket);

/* Bytes written to the socket that the peer has not acknowledged. */
unsigned client_unsent(int socket);

/* Bytes that the peer has acknowledged since it connected. */
uint64_t client_arrived(int socket);

/* What has come since the client connected: bytes, over TLS records that the library has read. */
uint64_t client_heard(const struct client *client);

/* Whether something, but its end, has come since client->heard. Over TLS only while the connection
 * ends (tls_peer), before that and afterwards nobody can say. */
bool client_heard_more(struct client *client);

/* What has been sent since the client connected: bytes, be they still in the socket, over TLS
 * records; likewise. */
uint64_t client_said(const struct client *client);
bool client_said_more(const struct client *client);

/* Since the last of them. */
uint64_t client_quiet_ms(int socket);

/* Sends what the library holds back for a body that is to follow. */
void client_flush(int socket);

#define CLIENT_UNSENT 65536

/* The socket takes more only while less than CLIENT_UNSENT waits in it for the peer's window (or
 * that of the path), and says so when it is half of that: tcp(7) does not know TCP_NOTSENT_LOWAT,
 * net/ipv4/tcp.c does. Otherwise a third of up to 4 MiB must have left first, and until then the
 * library takes one who reads slowly for idle. With more waiting a client on this machine is
 * slower, too: of a long body 4 of them got 1.5 times as much with this as with a full socket, one
 * alone up to twice. */
void client_limit_unsent(int socket);

#endif
