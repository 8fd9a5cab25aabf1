/* SPDX-License-Identifier: MIT */
#include "httpd/reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/bypass.h"
#include "httpd/path.h"
#include "httpd/server.h"

static void add_cors(struct request *rq, struct MHD_Response *r)
{
	const char *origin = rq->server->options->cors;

	if (!origin)
		return;
	reply_header(r, "Access-Control-Allow-Origin", origin);
	reply_header(r, "Access-Control-Expose-Headers",
		"Accept-Ranges, Content-Length, Content-Range, ETag, Last-Modified");
	if (strcmp(origin, "*"))
		reply_header(r, "Vary", "Origin");
}

enum MHD_Result reply_send(struct request *rq, unsigned status, struct MHD_Response *r)
{
	enum MHD_Result result;

	if (!r)
		return MHD_NO;
	reply_header(r, "Server", "rww-httpd/" RWWFS_VERSION);
	reply_header(r, "X-Content-Type-Options", "nosniff");
	add_cors(rq, r);
	if (rq->by_accept)
		reply_header(r, "Vary", "Accept");
	rq->last |= atomic_load(&rq->server->draining);
	if (rq->last)
		reply_header(r, "Connection", "close");
	rq->status = status;
	result = MHD_queue_response(rq->connection, status, r);
	MHD_destroy_response(r);
	return result;
}

void reply_header(struct MHD_Response *r, const char *name, const char *value)
{
	if (r && MHD_add_response_header(r, name, value) != MHD_YES)
		log_warn("cannot add the header %s: %s, ignoring", name, value);
}

void reply_headerf(struct MHD_Response *r, const char *name, const char *fmt, ...)
{
	char value[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	reply_header(r, name, value);
}

static ssize_t no_content(void *cls, uint64_t pos, char *buf, size_t max)
{
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* libmicrohttpd 0.9.75 sends the end of a chunked body even where there is no body, so it is told
 * of a client that has no chunks, upon which it closes. */
struct MHD_Response *reply_without_content(struct request *rq, uint64_t length)
{
	struct MHD_Response *r =
		MHD_create_response_from_callback(length, 1, no_content, NULL, NULL);

	if (length != MHD_SIZE_UNKNOWN)
		return r;
	rq->last = true;
	if (r)
		(void)MHD_set_response_options(r, MHD_RF_HTTP_VERSION_1_0_ONLY, MHD_RO_END);
	return r;
}

struct MHD_Response *reply_text_response(struct text *t, const char *type)
{
	struct MHD_Response *r = NULL;

	if (!t->failed && t->data)
		r = MHD_create_response_from_buffer(t->len, t->data, MHD_RESPMEM_MUST_FREE);
	if (r)
		*t = (struct text){0};
	text_free(t);
	reply_header(r, "Content-Type", type);
	return r;
}

/* For what there is: RFC 7617, RFC 6750. */
static void add_challenges(const struct options *o, struct MHD_Response *r)
{
	if (o->htpasswd)
		reply_headerf(
			r, "WWW-Authenticate", "Basic realm=\"%s\", charset=\"UTF-8\"", o->realm);
	if (o->tokens)
		reply_headerf(r, "WWW-Authenticate", "Bearer realm=\"%s\"", o->realm);
}

enum MHD_Result reply_error(struct request *rq, unsigned status, const char *why)
{
	struct text t = {0};
	struct MHD_Response *r;

	text_printf(&t, "%u %s\n", status, MHD_get_reason_phrase_for(status));
	if (why)
		text_printf(&t, "%s\n", why);
	rq->body_bytes = t.len;
	r = reply_text_response(&t, "text/plain; charset=utf-8");
	reply_header(r, "Cache-Control", "no-store");
	if (status == MHD_HTTP_UNAUTHORIZED)
		add_challenges(rq->server->options, r);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		reply_header(r, "Allow",
			rq->server->options->upload ? "GET, HEAD, OPTIONS, PUT, DELETE, MKCOL"
						    : "GET, HEAD, OPTIONS");
	if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
		reply_header(r, "Retry-After", "1");
	return reply_send(rq, status, r);
}

enum MHD_Result reply_refused(struct request *rq, const char *why)
{
	rq->last = true;
	return reply_error(rq, MHD_HTTP_BAD_REQUEST, why);
}

unsigned reply_status_of_errno(int error)
{
	switch (-error) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
	case EXDEV: /* would leave the root: not there, as far as anybody is told */
		return MHD_HTTP_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return MHD_HTTP_FORBIDDEN;
	case EEXIST:
	case EISDIR:
	case ENOTEMPTY:
	case EBUSY:
		return MHD_HTTP_CONFLICT;
	case ENOSPC:
	case EDQUOT:
		return MHD_HTTP_INSUFFICIENT_STORAGE;
	case EFBIG:
		return MHD_HTTP_CONTENT_TOO_LARGE;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
	case ENOTCONN:
	case ECONNABORTED:
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

/* The status of an answer, and what this server has to note. */
static unsigned note_errno(struct request *rq, int error)
{
	unsigned status = reply_status_of_errno(error);

	if (error == -ENOTCONN)
		atomic_store(&rq->server->root_lost, true);
	if (status >= 500 || error == -EXDEV)
		log_warn("%s %s: %s", rq->method, rq->target, strerror(-error));
	return status;
}

enum MHD_Result reply_errno(struct request *rq, int error)
{
	return reply_error(rq, note_errno(rq, error), NULL);
}

bool reply_bypass(struct request *rq, unsigned status)
{
	ssize_t sent =
		bypass_send(rq->server, rq->client, status, rq->started && request_is_head(rq));

	rq->status = status;
	rq->body_bytes = sent < 0 ? 0 : (uint64_t)sent;
	return sent >= 0;
}

/* The library takes an answer before the body or after it, not meanwhile. */
enum MHD_Result reply_early(struct request *rq, int error)
{
	unsigned status = note_errno(rq, error);

	rq->told_early = true;
	return reply_bypass(rq, status) ? MHD_YES : MHD_NO;
}

enum MHD_Result reply_too_large(struct request *rq)
{
	rq->finished = reply_bypass(rq, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE);
	client_drain(rq->client->socket);
	return MHD_NO;
}

enum MHD_Result reply_empty(struct request *rq, unsigned status)
{
	return reply_send(rq, status,
		MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT));
}

/* The query of the request goes along. */
enum MHD_Result reply_redirect(struct request *rq, unsigned status, const char *name)
{
	const char *query = strchr(rq->target, '?');
	size_t size = strlen(name) * 3 + 1;
	autofree char *encoded = malloc(size), *location = NULL;
	struct MHD_Response *r;

	if (!encoded || !path_encode(name, encoded, size) ||
		asprintf(&location, "/%s%s", encoded, query ? query : "") < 0)
		return MHD_NO;
	if (!request_leaves_room(rq, strlen(location)))
		return reply_error(rq, MHD_HTTP_URI_TOO_LONG, NULL);
	r = MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
	reply_header(r, "Location", location);
	reply_header(r, "Cache-Control", "no-cache"); /* it may become a file: section 15.4.2 */
	return reply_send(rq, status, r);
}
