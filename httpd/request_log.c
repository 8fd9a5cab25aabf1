/* SPDX-License-Identifier: MIT */
#include "httpd/request_log.h"

#include <string.h>

#include "common/cleanup.h"
#include "httpd/bypass.h"
#include "httpd/clock.h"
#include "httpd/request.h"
#include "httpd/server.h"

static const char *const outcome_names[] = {[OUTCOME_OK] = "ok",
	[OUTCOME_ABORTED] = "aborted",
	[OUTCOME_GONE] = "client gone",
	[OUTCOME_TIMEOUT] = "timeout",
	[OUTCOME_STOPPED] = "stopped"};

static void entry_log(struct server *s, const struct accesslog_entry *e)
{
	atomic_fetch_add(&s->metrics.bytes_sent, e->bytes);
	atomic_fetch_add(&s->metrics.responses[e->status / 100 % 6], 1);
	if (e->outcome == outcome_names[OUTCOME_GONE])
		atomic_fetch_add(&s->metrics.clients_gone, 1);
	accesslog_write(&s->log, e);
}

static const char *outcome_name(const struct request *rq, enum MHD_RequestTerminationCode how)
{
	if (rq->outcome != OUTCOME_OK || rq->finished || how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		return outcome_names[rq->outcome];
	if (how == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED)
		return outcome_names[OUTCOME_TIMEOUT];
	if (how == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
		return outcome_names[OUTCOME_STOPPED];
	return outcome_names[OUTCOME_GONE];
}

/* Of a body that the kernel sends nobody counts what is sent; what has arrived (with the header,
 * and over TLS its records) is near enough. */
static uint64_t bytes_sent(const struct request *rq, enum MHD_RequestTerminationCode how)
{
	uint64_t arrived;

	if (rq->started && request_is_head(rq))
		return 0;
	if (!rq->by_kernel || rq->finished || how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		return rq->body_bytes;
	arrived = client_arrived(rq->client->socket) - rq->arrived;
	return arrived < rq->body_bytes ? arrived : rq->body_bytes;
}

/* One whose client left before the answer gets nginx's 499. */
static unsigned status_to_log(const struct request *rq)
{
	if (rq->status)
		return rq->status;
	return !rq->started && rq->outcome == OUTCOME_TIMEOUT ? MHD_HTTP_REQUEST_TIMEOUT : 499;
}

void request_log(struct request *rq, enum MHD_RequestTerminationCode how)
{
	struct server *s = rq->server;
	const char *outcome = outcome_name(rq, how);
	unsigned status = status_to_log(rq);
	autofree char *referer = rq->started ? request_header(rq, MHD_HTTP_HEADER_REFERER) : NULL;
	autofree char *agent = rq->started ? request_header(rq, MHD_HTTP_HEADER_USER_AGENT) : NULL;
	uint64_t bytes = bytes_sent(rq, how);

	entry_log(s, &(struct accesslog_entry){
			     .address = rq->client ? rq->client->address : "-",
			     .user = rq->user,
			     .method = rq->method,
			     .target = rq->target,
			     .version = rq->version,
			     .referer = referer,
			     .agent = agent,
			     .outcome = outcome,
			     .status = status,
			     .bytes = bytes,
			     .milliseconds = clock_ms() - rq->started_ms,
			     .when = rq->when,
		     });
}

static bool came_too_slowly(struct server *s, const struct client *client)
{
	uint64_t idle = s->options->idle_timeout_ms;

	return client_is_late(&s->clients, client, clock_ms()) ||
	       (idle && client_quiet_ms(client->socket) >= idle);
}

void request_unread(struct server *s, struct client *client)
{
	bool answered = client->between && client_said_more(client);
	unsigned status = MHD_HTTP_BAD_REQUEST;
	enum outcome outcome = OUTCOME_OK;
	ssize_t sent = 0;

	if (!client->between || (!answered && !client_heard_more(client)))
		return;
	if (answered) {
		if (client->peer.worker->refused)
			status = client->peer.worker->refused;
	} else if (came_too_slowly(s, client)) {
		status = MHD_HTTP_REQUEST_TIMEOUT;
		outcome = OUTCOME_TIMEOUT;
	} else {
		sent = bypass_send(s, client, status, false);
		if (sent < 0)
			outcome = atomic_load(&s->draining) ? OUTCOME_STOPPED : OUTCOME_GONE;
	}
	entry_log(s, &(struct accesslog_entry){
			     .address = client->address,
			     .outcome = outcome_names[outcome],
			     .status = status,
			     .bytes = sent < 0 ? 0 : (uint64_t)sent,
			     .when = time(NULL),
		     });
}
