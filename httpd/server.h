/* SPDX-License-Identifier: MIT */
/*
 * The running server: what all requests share, from the first listener to the last log line.
 * Made and ended by main's thread; requests read it from their workers. What changes
 * afterwards says how it is protected.
 */
#ifndef HTTPD_SERVER_H
#define HTTPD_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "httpd/accept.h"
#include "httpd/accesslog.h"
#include "httpd/auth.h"
#include "httpd/client.h"
#include "httpd/follow.h"
#include "httpd/hasher.h"
#include "httpd/listen.h"
#include "httpd/metrics.h"
#include "httpd/mime.h"
#include "httpd/options.h"
#include "httpd/recent.h"
#include "httpd/upload.h"
#include "httpd/worker.h"

struct monitor;

/* Header and chunk buffer of a connection. libmicrohttpd touches half of it for every connection
 * and all of it for each further request, so it is what an idle follower costs. */
#define SERVER_POOL_SIZE ((size_t)16 * 1024)

struct server {
	const struct options *options;
	/* The directory that is served. When its mount died and another has come, root becomes
	 * that: the descriptor keeps its number. */
	int root;
	_Atomic dev_t live_device;  /* root's, if it is an rwwfs mount; else 0 */
	_Atomic dev_t plain_device; /* root's, if it is none */
	atomic_bool root_lost;      /* somebody found that its mount does not answer */
	struct mime *mime;
	struct follow *follow;
	struct uploads uploads;
	struct clients clients;
	struct recent recent;
	struct accesslog log;
	struct metrics metrics;
	pthread_rwlock_t auth_lock;
	struct auth *auth;     /* auth_lock; NULL: everybody may */
	struct hasher *hasher; /* NULL: no passwords */
	atomic_bool draining;  /* answers close their connection */

	struct listener listeners[LISTEN_MAX];
	unsigned listener_count;
	struct listener metrics_listener; /* fd -1: none */
	struct acceptor acceptor;
	struct worker *workers;  /* owned */
	unsigned worker_count;   /* those that were initialized */
	struct monitor *monitor; /* owned; NULL: none */
	bool tls;
	unsigned crowd; /* most connections since memory was given back; main's thread */
};

/* Opens everything, privileges still whole: root, sockets, logs, certificates, credentials.
 * -errno, logged; server_close() in either case. */
int server_open(struct server *s, const struct options *o);
/* Starts to answer. */
int server_start(struct server *s);
/* Stops accepting, lets running answers end for up to the drain timeout (or until *hurry), cuts
 * the rest. */
void server_stop(struct server *s, const atomic_bool *hurry);
void server_close(struct server *s);

/* SIGHUP: reopens the log, reads credentials and certificate again; what fails stays as it was. */
void server_reload(struct server *s);

/* Every now and then, from main's thread. */
void server_tidy(struct server *s);

void server_gauges(struct server *s, struct metrics_gauges *ret);

#endif
