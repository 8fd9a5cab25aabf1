/* SPDX-License-Identifier: MIT */
/*
 * One request, from its first line to the line in the access log. Made and ended by callbacks of
 * libmicrohttpd; only ever touched by the worker that its connection belongs to (waiter: see
 * follow.h). request.c is the table of contents of the server: the routes.
 */
#ifndef HTTPD_REQUEST_H
#define HTTPD_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "httpd/follow.h"
#include "httpd/hasher.h"
#include "httpd/resource.h"
#include "httpd/upload.h"
#include "httpd/worker.h"

struct server;

enum outcome {
	OUTCOME_OK,
	OUTCOME_ABORTED,
	OUTCOME_GONE,
	OUTCOME_TIMEOUT,
	OUTCOME_STOPPED,
};

struct request {
	struct server *server;
	struct MHD_Connection *connection;
	struct client *client;
	const struct route *route;

	char *target;                 /* as sent, query included; NULL when out of memory */
	const char *method, *version; /* libmicrohttpd's; NULL before the header is complete */
	char *name;                   /* below the root, see struct path */
	bool directory, hidden;
	bool by_accept; /* what a directory is answered with depends on this header */
	char *user;
	struct hasher_client password;

	time_t when;
	uint64_t started_ms;
	uint64_t wait_until_ms; /* how long the client lets us wait, once held; 0: any time */

	bool started, checked; /* the header is complete; its route has begun */
	bool whole;            /* all of it has come */
	uintptr_t target_end;  /* where the library has it, for request_start() */
	bool has_nul;          /* in its target, of which the library tells what is before */
	unsigned status;       /* 0 until answered */
	bool last;             /* its answer closes the connection */
	bool told_early;       /* answered past the library: nothing follows */
	uint64_t arrived;      /* before a body that the kernel sends; see client_arrived() */
	bool by_kernel;        /* such a body runs */
	uint64_t acknowledged, acknowledged_ms; /* by a client who takes no more; see reader.c */
	unsigned doubts;                        /* before the end of a body; see resource.h */
	enum outcome outcome;
	bool close_delimited; /* only a reset tells half the body from the whole */
	bool finished;        /* the body is whole, whatever the library thinks of it */

	struct resource resource;
	struct live *live; /* followed, or NULL */
	struct waiter waiter;
	struct listing *listing;           /* being gathered, or NULL */
	uint64_t body_bytes;               /* promised, or counted by the body */
	struct upload *upload;             /* running */
	struct upload_condition condition; /* its */
	uint64_t received, dropped;        /* body bytes, in total and for nothing */
	struct worker_chunked chunked;     /* on a list while more of them are to come so */
};

/* Callbacks of libmicrohttpd; cls is the server. */
void *request_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result request_handle(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *data_size, void **con);
void request_end(void *cls, struct MHD_Connection *connection, void **con,
	enum MHD_RequestTerminationCode how);

/* The connection closes, and nobody ended this one: the library (0.9.75) forgets a request when it
 * fails twice for want of memory, as it does over many small cookies, and answers nothing. */
void request_forgotten(struct request *rq);

bool request_is_head(const struct request *rq);
/* resource_open(), with what the answer will need. */
int request_open(const struct request *rq, const char *name, struct resource *ret);
/* The file that is open, afresh: a request that waited for it keeps it when its name goes. */
int request_open_again(struct request *rq);
/* A header of the request; several of that name are joined with commas (RFC 9110 section 5.3). NULL
 * when absent, or out of memory. Free it. */
char *request_header(const struct request *rq, const char *name);
bool request_has_header(const struct request *rq, const char *name);
bool request_is_http_1_0(const struct request *rq);
/* For the header of an answer of the usual size, and so much more; else none can be given. */
bool request_leaves_room(const struct request *rq, size_t more);

#endif
