/* SPDX-License-Identifier: MIT */
#include "httpd/monitor.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/clock.h"
#include "httpd/server.h"

#define MOST    64u /* connections */
#define IDLE_MS 10000u

struct monitor {
	struct server *server;
	struct clients clients; /* its own: the server's are counted, and waited for */
	struct acceptor acceptor;
	struct worker worker;
};

/* Healthy: not about to stop, and the root still answers: statfs(2) is never answered from a cache.
 * If it does not, another is looked for from now on: who is told so may send no request any more.
 */
static unsigned health(struct server *s, struct text *t)
{
	struct statfs fs;

	if (atomic_load(&s->draining)) {
		text_put(t, "draining\n");
	} else if (fstatfs(s->root, &fs)) {
		text_printf(t, "the root does not answer: %s\n", strerror(errno));
		atomic_store(&s->root_lost, true);
	} else {
		text_put(t, "ok\n");
		return MHD_HTTP_OK;
	}
	return MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned respond(struct server *s, const char *method, const char *url, struct text *t)
{
	struct metrics_gauges gauges;

	if (strcmp(method, "GET") && strcmp(method, "HEAD")) {
		text_put(t, "405 Method Not Allowed\n");
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	if (!strcmp(url, "/healthz"))
		return health(s, t);
	if (!strcmp(url, "/metrics")) {
		server_gauges(s, &gauges);
		metrics_format(&s->metrics, &gauges, t);
		return MHD_HTTP_OK;
	}
	text_put(t, "404 Not Found\n");
	return MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *data_size, void **con)
{
	struct text t = {0};
	struct MHD_Response *r;
	enum MHD_Result result = MHD_NO;
	unsigned status;

	/* Answered once the request is complete, which keeps the connection; but nobody waits for
	 * chunks, which could keep a processor busy: see may_pause() in worker.c. */
	if (!*con) {
		*con = cls;
		if (!MHD_lookup_connection_value(
			    connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING))
			return MHD_YES;
	}
	if (*data_size) {
		*data_size = 0;
		return MHD_YES;
	}
	status = respond(cls, method, url, &t);
	r = t.failed ? NULL : MHD_create_response_from_buffer(t.len, t.data, MHD_RESPMEM_MUST_FREE);
	if (!r) {
		text_free(&t);
		return MHD_NO;
	}
	if (MHD_add_response_header(
		    r, "Content-Type", "text/plain; version=0.0.4; charset=utf-8") &&
		(status != MHD_HTTP_METHOD_NOT_ALLOWED ||
			MHD_add_response_header(r, "Allow", "GET, HEAD")))
		result = MHD_queue_response(connection, status, r);
	MHD_destroy_response(r);
	return result;
}

/* All of a request must come in time, or a few who trickle would keep everybody else out. */
static void connection_changed(void *cls, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct worker *w = cls;
	struct monitor *m = w->owner;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		int socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
				     ->connect_fd;

		*context = client_new(&m->clients, m->server->follow, w, socket,
			clock_deadline(m->server->options->header_timeout_ms));
	} else if (*context) {
		client_free(&m->clients, *context);
		*context = NULL;
	}
	worker_connection(w, connection, what);
}

static void request_ended(void *cls, struct MHD_Connection *connection, void **con,
	enum MHD_RequestTerminationCode how)
{
	struct monitor *m = cls;
	uint64_t header = m->server->options->header_timeout_ms;
	struct client *client =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			->socket_context;

	if (client)
		client_expect_header(
			&m->clients, client, clock_deadline(header ? header + IDLE_MS : 0), true);
}

static int start(struct monitor *m, struct server *s)
{
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET;
	struct MHD_Daemon *daemon;
	int r = acceptor_init(&m->acceptor, MOST, 0);

	m->server = s;
	clients_init(&m->clients);
	if (!r)
		r = worker_init(&m->worker, m, &m->acceptor);
	if (r < 0)
		return r;
	daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, s, MHD_OPTION_NOTIFY_CONNECTION,
		connection_changed, &m->worker, MHD_OPTION_NOTIFY_COMPLETED, request_ended, m,
		MHD_OPTION_CONNECTION_LIMIT, MOST, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_MS / 1000,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
	r = daemon ? worker_start(&m->worker, daemon) : -EIO;
	return r ? r : acceptor_start(&m->acceptor, &s->metrics_listener, 1, &m->worker, 1);
}

int monitor_start(struct server *s)
{
	int r;

	s->monitor = calloc(1, sizeof(*s->monitor));
	r = s->monitor ? start(s->monitor, s) : -ENOMEM;
	if (!r)
		log_note("metrics on http://%s/metrics", s->metrics_listener.address);
	else
		log_error("cannot start the server on %s: %s", s->metrics_listener.address,
			strerror(-r));
	return r;
}

void monitor_reap(struct server *s)
{
	if (s->monitor)
		clients_reap(&s->monitor->clients, clock_ms(), false);
}

void monitor_stop(struct server *s)
{
	struct monitor *m = steal_ptr(&s->monitor);

	if (!m)
		return;
	acceptor_stop(&m->acceptor);
	worker_stop(&m->worker);
	worker_done(&m->worker);
	acceptor_done(&m->acceptor);
	clients_destroy(&m->clients);
	free(m);
}
