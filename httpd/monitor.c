/* SPDX-License-Identifier: MIT */
#include "httpd/monitor.h"

#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/vfs.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/server.h"

/* Healthy: not about to stop, and the root still answers: statfs(2) is never answered from a cache.
 */
static unsigned health(struct server *s, struct text *t)
{
	struct statfs fs;

	if (atomic_load(&s->draining))
		text_put(t, "draining\n");
	else if (fstatfs(s->root, &fs))
		text_printf(t, "the root does not answer: %s\n", strerror(errno));
	else
		text_put(t, "ok\n");
	return t->len == 3 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
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

	if (!*con) { /* answered once the request is complete, which keeps the connection */
		*con = cls;
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
	if (MHD_add_response_header(r, "Content-Type", "text/plain; version=0.0.4; charset=utf-8"))
		result = MHD_queue_response(connection, status, r);
	MHD_destroy_response(r);
	return result;
}

int monitor_start(struct server *s)
{
	struct listener *l = &s->metrics_listener;

	s->metrics_daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle,
		s, MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_CONNECTION_LIMIT, 64u,
		MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
		MHD_OPTION_END);
	if (!s->metrics_daemon) {
		log_error("cannot start the server on %s", l->address);
		return -EIO;
	}
	(void)steal_fd(&l->fd);
	log_note("metrics on http://%s/metrics", l->address);
	return 0;
}

void monitor_stop(struct server *s)
{
	if (s->metrics_daemon)
		MHD_stop_daemon(s->metrics_daemon);
	s->metrics_daemon = NULL;
}
