/* SPDX-License-Identifier: MIT */
#include "httpd/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/parse.h"
#include "httpd/clock.h"
#include "httpd/get.h"
#include "httpd/listing.h"
#include "httpd/path.h"
#include "httpd/put.h"
#include "httpd/reader.h"
#include "httpd/reply.h"
#include "httpd/request_log.h"
#include "httpd/server.h"

/* begin: the header is there; answering now refuses the body. data: a piece of the body. answer:
 * all has arrived; called again after the request was held. */
struct route {
	const char *method;
	bool changes; /* needs --upload */
	enum MHD_Result (*begin)(struct request *rq);
	enum MHD_Result (*data)(struct request *rq, const char *data, size_t *size);
	enum MHD_Result (*answer)(struct request *rq);
};

static enum MHD_Result nothing_to_begin(struct request *rq)
{
	return MHD_YES;
}

/* A body that means nothing is read and dropped (RFC 9110 section 9.3.1). */
static enum MHD_Result drop_data(struct request *rq, const char *data, size_t *size)
{
	*size = 0;
	return MHD_YES;
}

static enum MHD_Result options_answer(struct request *rq)
{
	bool upload = rq->server->options->upload;
	const char *methods =
		upload ? "GET, HEAD, OPTIONS, PUT, DELETE, MKCOL" : "GET, HEAD, OPTIONS";
	struct MHD_Response *r =
		MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);

	reply_header(r, "Allow", methods);
	if (rq->server->options->cors) {
		reply_header(r, "Access-Control-Allow-Methods", methods);
		reply_header(r, "Access-Control-Allow-Headers",
			"Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, "
			"If-Range, If-Unmodified-Since, Prefer, Range");
		reply_header(r, "Access-Control-Max-Age", "86400");
	}
	return reply_send(rq, MHD_HTTP_NO_CONTENT, r);
}

static const struct route routes[] = {
	{"GET", false, nothing_to_begin, drop_data, get_answer},
	{"HEAD", false, nothing_to_begin, drop_data, get_answer},
	{"OPTIONS", false, nothing_to_begin, drop_data, options_answer},
	{"PUT", true, put_begin, put_data, put_answer},
	{"DELETE", true, nothing_to_begin, drop_data, delete_answer},
	{"MKCOL", true, nothing_to_begin, drop_data, mkcol_answer},
};

static const struct route *route_find(const char *method)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (!strcmp(routes[i].method, method))
			return &routes[i];
	return NULL;
}

/* Others are not recognized: 501 instead of 405 (RFC 9110 sections 9.1 and 15.5.6). */
static bool method_is_known(const char *method)
{
	static const char *const known[] = {"POST", "PATCH", "TRACE", "CONNECT", "PROPFIND",
		"PROPPATCH", "COPY", "MOVE", "LOCK", "UNLOCK"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i], method))
			return true;
	return false;
}

bool request_is_head(const struct request *rq)
{
	return !strcmp(rq->method, "HEAD");
}

bool request_is_http_1_0(const struct request *rq)
{
	return !strcmp(rq->version, MHD_HTTP_VERSION_1_0);
}

bool request_has_header(const struct request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

struct joined {
	const char *name;
	bool as_sent; /* with the white space behind it, which the library leaves (0.9.75) */
	bool failed;  /* out of memory */
	char *value;
};

static size_t length_of(const char *value, bool as_sent)
{
	size_t len = strlen(value);

	while (!as_sent && len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	return len;
}

static enum MHD_Result join(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct joined *j = cls;
	size_t old = j->value ? strlen(j->value) + 1 : 0;
	size_t len = value ? length_of(value, j->as_sent) : 0;
	char *grown;

	if (strcasecmp(name, j->name))
		return MHD_YES;
	grown = realloc(j->value, old + len + 1);
	if (!grown) {
		j->failed = true;
		return MHD_NO;
	}
	if (old)
		grown[old - 1] = ',';
	if (len)
		memcpy(grown + old, value, len);
	grown[old + len] = '\0';
	j->value = grown;
	return MHD_YES;
}

static char *header(const struct request *rq, const char *name, bool as_sent)
{
	struct joined j = {.name = name, .as_sent = as_sent};

	if (request_has_header(rq, name))
		(void)MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, join, &j);
	if (j.failed) /* half of it would mean something else */
		free(steal_ptr(&j.value));
	return j.value;
}

char *request_header(const struct request *rq, const char *name)
{
	return header(rq, name, false);
}

static size_t data_wanted(const struct request *rq)
{
	if (request_is_head(rq))
		return 0;
	return request_has_header(rq, MHD_HTTP_HEADER_RANGE) ||
			       request_has_header(rq, MHD_HTTP_HEADER_IF_NONE_MATCH) ||
			       request_has_header(rq, MHD_HTTP_HEADER_IF_MODIFIED_SINCE)
		       ? RESOURCE_SMALL
		       : RESOURCE_DATA;
}

int request_open(const struct request *rq, const char *name, struct resource *ret)
{
	return resource_open(rq->server, name, data_wanted(rq), ret);
}

int request_open_again(struct request *rq)
{
	return resource_open_again(rq->server, data_wanted(rq), &rq->resource);
}

/* -- the checks that every request passes ---------------------------------------------------- */

/* The library writes the header of an answer, and its chunks, where the request lies, with a note
 * of each of its values and a copy of its cookies; without room for that it only closes (0.9.75).
 */
bool request_leaves_room(const struct request *rq, size_t more)
{
	const struct options *o = rq->server->options;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	const char *cookie = MHD_lookup_connection_value(
		rq->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_COOKIE);
	int values = MHD_get_connection_values(
		rq->connection, MHD_HEADER_KIND | MHD_COOKIE_KIND, NULL, NULL);
	size_t answer = 1024 + more + 2 * strlen(o->realm) + (o->cors ? strlen(o->cors) : 0);

	return (info ? info->header_size : 0) + (size_t)values * 64 +
		       (cookie ? strlen(cookie) : 0) + answer <=
	       SERVER_POOL_SIZE;
}

/* How the body is framed must be beyond doubt (RFC 9112 section 6.3), also for the library: one
 * length, or chunked. */
static bool framing_is_sound(const struct request *rq)
{
	autofree char *length = header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH, true);
	autofree char *encoding = header(rq, MHD_HTTP_HEADER_TRANSFER_ENCODING, true);

	if (encoding && (length || strcasecmp(encoding, "chunked") || request_is_http_1_0(rq)))
		return false;
	return !length || (*length && !length[strspn(length, "0123456789")]);
}

/* Whether name is longer than that of a header that says how long a body is. */
static bool hides(const char *header, const char *name)
{
	size_t len = strlen(header);

	return !strncasecmp(name, header, len) && name[len];
}

/* Of a value that goes on in the next line the library (0.9.75) adds that line to the name, which
 * it puts elsewhere for it. */
static bool is_one_line(const char *name, const char *value)
{
	while (value[-1] == ' ' || value[-1] == '\t')
		value--;
	return name + strlen(name) + 1 == value;
}

static enum MHD_Result check_field(
	void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	bool *sound = cls;

	*sound = *name && !name[strspn(name, token)] && is_one_line(name, value) &&
		 !hides(MHD_HTTP_HEADER_CONTENT_LENGTH, name) &&
		 !hides(MHD_HTTP_HEADER_TRANSFER_ENCODING, name);
	return *sound ? MHD_YES : MHD_NO;
}

/* RFC 9112 sections 5.1 and 5.2: the library takes all before the colon for the name (0.9.75). So
 * a length may hide in a name. */
static bool fields_are_sound(const struct request *rq)
{
	bool sound = true;

	(void)MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, check_field, &sound);
	return sound;
}

static bool host_is_sound(const struct request *rq)
{
	autofree char *host = request_header(rq, MHD_HTTP_HEADER_HOST);

	if (!host)
		return request_is_http_1_0(rq);
	return !strpbrk(host, ", /?#@\t");
}

static int name_set(struct request *rq, const char *url)
{
	autofree struct path *path = malloc(sizeof(*path));
	int r;

	if (!path)
		return -ENOMEM;
	if (!strcmp(url, "*") && !strcmp(rq->method, "OPTIONS"))
		url = "/";
	r = path_parse(url, path);
	if (r < 0)
		return r;
	rq->name = strdup(path->name);
	rq->directory = path->directory;
	rq->hidden = path->hidden;
	return rq->name ? 0 : -ENOMEM;
}

/* Preflights come without credentials (Fetch standard), so OPTIONS needs none. */
static enum auth_result look_at_credentials(struct request *rq)
{
	struct server *s = rq->server;
	enum auth_result result = AUTH_OK;
	autofree char *header = NULL;

	pthread_rwlock_rdlock(&s->auth_lock);
	if (s->auth && strcmp(rq->method, "OPTIONS") &&
		(rq->route->changes || !s->options->public_reads)) {
		header = request_header(rq, MHD_HTTP_HEADER_AUTHORIZATION);
		result = !header && request_has_header(rq, MHD_HTTP_HEADER_AUTHORIZATION)
				 ? AUTH_BUSY /* no memory for it */
				 : auth_check(s->auth, s->hasher, &rq->password, header, &rq->user);
	}
	pthread_rwlock_unlock(&s->auth_lock);
	if (result == AUTH_WRONG)
		atomic_fetch_add(&s->metrics.auth_failures, 1);
	return result;
}

/* AUTH_LATER when held. */
static enum auth_result authorize(struct request *rq)
{
	enum auth_result result;
	enum hold hold;

	do {
		result = look_at_credentials(rq);
		if (result != AUTH_LATER)
			return result;
		hold = follow_until_called(&rq->waiter);
	} while (reader_looks_again(rq, hold) && hold != HOLD_GONE);
	return result;
}

/* MHD_YES without an answer when the request may go on to its route, or was held and is not
 * checked. */
static enum MHD_Result request_check(struct request *rq, const char *url)
{
	int r;

	rq->checked = true;
	if (!request_leaves_room(rq, 0))
		return reply_too_large(rq);
	if (rq->has_nul)
		return reply_refused(rq, "The target has a NUL in it.");
	if (strchr(rq->target, ' '))
		return reply_refused(rq, "The target has a space in it.");
	if (!fields_are_sound(rq))
		return reply_refused(rq, "A header is malformed.");
	if (!framing_is_sound(rq))
		return reply_refused(rq, "The length of the body is not clear.");
	if (!host_is_sound(rq))
		return reply_error(rq, MHD_HTTP_BAD_REQUEST, "One Host header is needed.");
	rq->route = route_find(rq->method);
	if (!rq->route && !method_is_known(rq->method))
		return reply_error(rq, MHD_HTTP_NOT_IMPLEMENTED, NULL);
	if (!rq->route || (rq->route->changes && !rq->server->options->upload))
		return reply_error(rq, MHD_HTTP_METHOD_NOT_ALLOWED, NULL);
	switch (authorize(rq)) {
	case AUTH_OK:
		break;
	case AUTH_LATER:
		rq->checked = false;
		return rq->outcome == OUTCOME_OK ? MHD_YES : MHD_NO;
	case AUTH_BUSY:
		return reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE, NULL);
	case AUTH_MISSING:
	case AUTH_WRONG:
		return reply_error(rq, MHD_HTTP_UNAUTHORIZED, NULL);
	}
	r = name_set(rq, url);
	if (r == -EINVAL)
		return reply_error(rq, MHD_HTTP_BAD_REQUEST, "The path is malformed.");
	if (r == -ENAMETOOLONG)
		return reply_error(rq, MHD_HTTP_URI_TOO_LONG, NULL);
	if (r < 0)
		return reply_errno(rq, r);
	if (rq->hidden && !rq->server->options->dotfiles)
		return reply_error(
			rq, rq->route->changes ? MHD_HTTP_FORBIDDEN : MHD_HTTP_NOT_FOUND, NULL);
	return rq->route->begin(rq);
}

/* -- callbacks of libmicrohttpd --------------------------------------------------------------- */

static struct client *client_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* The library would note each part of the query, and with too many of them hang (0.9.75). It has
 * looked for the question mark already; what is behind it lies in the memory of the connection. */
static void hide_query(const char *uri)
{
	const char *query = strchr(uri, '?');

	if (query)
		((char *)(uintptr_t)query)[1] = '\0';
}

void *request_begin(void *cls, const char *uri, struct MHD_Connection *connection)
{
	struct server *s = cls;
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return NULL;
	rq->server = s;
	rq->connection = connection;
	rq->client = client_of(connection);
	rq->target = strdup(uri);
	rq->target_end = (uintptr_t)uri + strlen(uri);
	hide_query(uri);
	rq->when = time(NULL);
	rq->started_ms = clock_ms();
	rq->resource.fd = -1;
	waiter_init(&rq->waiter, rq->client ? &rq->client->peer : NULL, connection);
	list_init(&rq->chunked.entry);
	if (rq->client) {
		rq->chunked.connection = connection;
		rq->chunked.socket = rq->client->socket;
		rq->client->between = false;
		rq->client->request = rq;
		rq->password = (struct hasher_client){&rq->waiter, rq->client->address, NULL};
		client_expect_header(&s->clients, rq->client,
			clock_deadline(s->options->header_timeout_ms), false);
	}
	return rq;
}

/* The library parses the first line where it lies: the version follows the target, but for a space.
 * If it is further on, the target goes on behind a NUL. */
static void request_start(struct request *rq, const char *method, const char *version)
{
	uintptr_t gap = (uintptr_t)version - rq->target_end - 1;

	rq->has_nul = gap && gap < UINT16_MAX;
	rq->started = true;
	rq->method = method;
	rq->version = version;
	client_expect_header(&rq->server->clients, rq->client, 0, false);
}

/* Out of memory as if it had one: half of it must not be taken for all. */
static bool has_body(const struct request *rq)
{
	autofree char *length = request_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);

	if (!length && request_has_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH))
		return true;
	return (length && (!*length || length[strspn(length, "0")])) ||
	       request_has_header(rq, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

/* RFC 9110 section 10.1.1: where no body comes, there is nothing to go on with. The library
 * (0.9.75) would say so nevertheless, and then take what comes next, another request, for a piece
 * of the body. It looks at the header after us; the value lies in the memory of its connection. */
static void forget_expectation(struct request *rq)
{
	const char *expect = MHD_lookup_connection_value(
		rq->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);

	if (expect && *expect)
		*(char *)(uintptr_t)expect = '-';
}

/* With an empty line before it (RFC 9112 section 2.2); not for chunked ones. */
static uint64_t bytes_of_request(const struct request *rq)
{
	autofree char *length = request_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t body = 0;

	if (length)
		(void)parse_u64(length, &body); /* the library took it */
	return 2 + body +
	       MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
		       ->header_size;
}

/* Before the answer: what comes after it, and may be there already, is another request, or none. */
static void request_is_whole(struct request *rq)
{
	struct client *client = rq->client;
	uint64_t heard, most;

	if (rq->whole)
		return;
	rq->whole = true;
	heard = client_heard(client);
	most = client->heard + bytes_of_request(rq);
	if (client->encrypted || request_has_header(rq, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
		heard < most)
		client->heard = heard;
	else
		client->heard = most;
}

enum MHD_Result request_handle(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *data_size, void **con)
{
	struct request *rq = *con;

	if (!rq || !rq->target || !rq->client)
		return MHD_NO;
	if (!rq->started) {
		request_start(rq, method, version);
		if (request_has_header(rq, MHD_HTTP_HEADER_TRANSFER_ENCODING))
			list_add_tail(&rq->client->peer.worker->chunked, &rq->chunked.entry);
		/* libmicrohttpd closes connections that are answered before the body; one that has
		 * none is looked at when all has arrived. */
		if (!has_body(rq)) {
			request_is_whole(rq);
			forget_expectation(rq);
			return MHD_YES;
		}
	}
	if (!rq->checked) {
		enum MHD_Result result = request_check(rq, url);

		if (result != MHD_YES || rq->status || !rq->checked || has_body(rq))
			return result;
	}
	if (*data_size) {
		rq->client->peer.worker->hurrying = 0;
		atomic_fetch_add(&rq->server->metrics.bytes_received, *data_size);
		return rq->route->data(rq, data, data_size);
	}
	list_del(&rq->chunked.entry);
	request_is_whole(rq);
	if (rq->told_early)
		return MHD_NO;
	return rq->status ? MHD_YES : rq->route->answer(rq);
}

/* The library refused it by itself, or its client left, or took too long for its header. */
static void judge_unanswered(struct request *rq)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_HTTP_STATUS);

	rq->status = info ? info->http_status : 0;
	if (rq->status)
		rq->finished = true;
	else if (!rq->started && rq->client &&
		 client_is_late(&rq->server->clients, rq->client, clock_ms()))
		rq->outcome = OUTCOME_TIMEOUT;
}

/* No other follows on its connection: its client said so, or we did. */
static bool is_last(const struct request *rq)
{
	autofree char *connection = request_header(rq, MHD_HTTP_HEADER_CONNECTION);

	if (rq->last || (connection && strcasestr(connection, "close")))
		return true;
	return request_is_http_1_0(rq) && !(connection && strcasestr(connection, "keep-alive"));
}

void request_end(void *cls, struct MHD_Connection *connection, void **con,
	enum MHD_RequestTerminationCode how)
{
	struct request *rq = *con;
	struct server *s;
	uint64_t header, idle;

	if (!rq)
		return;
	s = rq->server;
	header = s->options->header_timeout_ms;
	idle = s->options->idle_timeout_ms;
	*con = NULL;
	list_del(&rq->chunked.entry);
	hasher_forget(s->hasher, &rq->password);
	waiter_done(&rq->waiter); /* before its live may go */
	put_end(rq);
	listing_free(rq->listing);
	if (!rq->status)
		judge_unanswered(rq);
	if (rq->by_kernel && !rq->finished && how != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
		client_body_was_cut(&s->clients, rq->client)) {
		rq->outcome = OUTCOME_OK; /* it did not leave by itself */
		reader_note_cut(rq, OUTCOME_ABORTED);
	}
	if (rq->close_delimited && !rq->finished && how != MHD_REQUEST_TERMINATED_COMPLETED_OK)
		client_reset(rq->client->socket);
	if (rq->close_delimited)
		client_set_close_delimited(&s->clients, rq->client, false);
	request_log(rq, how);
	live_put(s->follow, rq->live);
	if (rq->by_kernel)
		client_set_body(&s->clients, rq->client, NULL, 0);
	resource_close(&rq->resource);
	if (rq->client) {
		rq->client->request = NULL;
		rq->client->between =
			rq->whole && how == MHD_REQUEST_TERMINATED_COMPLETED_OK && !is_last(rq);
		if (rq->client->between)
			rq->client->said = client_said(rq->client);
		/* without a limit for the header the library has that for idle ones */
		client_expect_header(&s->clients, rq->client,
			clock_deadline(idle && header ? idle + header : 0), true);
	}
	free(rq->target);
	free(rq->name);
	free(rq->user);
	free(rq);
}

/* The memory of the request is gone already, and with it the header, method and version. One that
 * was started was refused in its body (1.0.1). */
void request_forgotten(struct request *rq)
{
	unsigned refused = rq->started ? rq->client->peer.worker->refused : 0;
	unsigned status = refused ? refused : MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
	void *con = rq;

	rq->started = false;
	rq->method = NULL;
	rq->version = NULL;
	rq->finished = reply_bypass(rq, status);
	rq->status = status;
	request_end(rq->server, rq->connection, &con, MHD_REQUEST_TERMINATED_WITH_ERROR);
}
