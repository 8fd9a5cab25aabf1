/* SPDX-License-Identifier: MIT */
#include "httpd/complete.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "httpd/body.h"
#include "httpd/httpdate.h"
#include "httpd/reply.h"
#include "httpd/server.h"

/* One that there is no memory for must not count as absent. */
static char *condition(const struct request *rq, const char *name, bool *lacking)
{
	char *value = request_header(rq, name);

	*lacking |= !value && request_has_header(rq, name);
	return value;
}

int request_conditions(struct request *rq, const struct validator *v, bool *ret_range_counts)
{
	bool lacking = false;
	autofree char *match = condition(rq, MHD_HTTP_HEADER_IF_MATCH, &lacking);
	autofree char *none_match = condition(rq, MHD_HTTP_HEADER_IF_NONE_MATCH, &lacking);
	autofree char *modified = condition(rq, MHD_HTTP_HEADER_IF_MODIFIED_SINCE, &lacking);
	autofree char *unmodified = condition(rq, MHD_HTTP_HEADER_IF_UNMODIFIED_SINCE, &lacking);
	autofree char *range = condition(rq, MHD_HTTP_HEADER_IF_RANGE, &lacking);
	struct conditions c = {match, none_match, modified, unmodified, range};

	if (lacking)
		return -ENOMEM;
	*ret_range_counts = conditions_allow_range(&c, v, rq->when);
	return conditions_check(
		&c, v, !strcmp(rq->method, MHD_HTTP_METHOD_GET) || request_is_head(rq), rq->when);
}

/* RFC 9110 section 14.2 defines Range for GET alone. */
bool request_range(const struct request *rq, struct range_set *ret)
{
	autofree char *value = request_header(rq, MHD_HTTP_HEADER_RANGE);

	return value && !request_is_head(rq) && range_parse(value, ret);
}

const char *request_type(const struct request *rq)
{
	return mime_of_name(rq->server->mime, rq->name);
}

static void validator_headers(struct MHD_Response *r, const struct validator *v)
{
	char date[HTTPDATE_SIZE];

	reply_header(r, "ETag", v->etag);
	if (*httpdate_format(v->modified, date))
		reply_header(r, "Last-Modified", date);
	reply_header(r, "Accept-Ranges", "bytes");
}

enum MHD_Result reply_not_modified(struct request *rq, const struct validator *v)
{
	struct MHD_Response *r = reply_without_content(
		rq, v->present ? (uint64_t)rq->resource.st.st_size : MHD_SIZE_UNKNOWN);

	if (v->present)
		validator_headers(r, v);
	else
		reply_header(r, "Cache-Control", "no-store"); /* as with 200: section 15.4.5 */
	return reply_send(rq, MHD_HTTP_NOT_MODIFIED, r);
}

enum MHD_Result reply_unsatisfiable(struct request *rq, uint64_t size)
{
	static const char why[] = "416 Range Not Satisfiable\n";
	struct MHD_Response *r = MHD_create_response_from_buffer(
		sizeof(why) - 1, (void *)(uintptr_t)why, MHD_RESPMEM_PERSISTENT);

	rq->body_bytes = sizeof(why) - 1;
	reply_header(r, "Content-Type", "text/plain; charset=utf-8");
	reply_headerf(r, "Content-Range", "bytes */%" PRIu64, size);
	return reply_send(rq, MHD_HTTP_RANGE_NOT_SATISFIABLE, r);
}

static struct MHD_Response *parts_response(
	struct request *rq, const struct range_parts *parts, uint64_t size)
{
	char boundary[40];
	struct MHD_Response *r;

	if (parts->count == 1) {
		const struct range *p = &parts->part[0];

		r = body_of_file(rq, p->first, p->last - p->first + 1);
		reply_header(r, "Content-Type", request_type(rq));
		reply_headerf(r, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
			p->first, p->last, size);
		return r;
	}
	snprintf(boundary, sizeof(boundary), "rww%08lx%08lx", random(), random());
	r = body_of_parts(rq, parts, size, request_type(rq), boundary);
	reply_headerf(r, "Content-Type", "multipart/byteranges; boundary=%s", boundary);
	return r;
}

enum MHD_Result complete_answer(struct request *rq, bool *ret_again)
{
	uint64_t size = (uint64_t)rq->resource.st.st_size;
	enum range_answer answer = RANGE_WHOLE;
	struct range_parts parts;
	struct range_set set;
	struct validator v;
	struct timespec now;
	bool range;
	struct MHD_Response *r;
	int holds;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	validator_of_stat(&rq->resource.st, &now, &v);
	holds = request_conditions(rq, &v, &range);
	if (holds < 0)
		return reply_errno(rq, holds);
	switch ((enum condition_result)holds) {
	case CONDITION_NOT_MODIFIED:
		return reply_not_modified(rq, &v);
	case CONDITION_FAILED:
		return reply_error(rq, MHD_HTTP_PRECONDITION_FAILED, NULL);
	case CONDITION_PROCEED:
		break;
	}
	if (range && request_range(rq, &set))
		answer = range_of_complete(&set, size, &parts);
	if (answer == RANGE_UNSATISFIABLE)
		return reply_unsatisfiable(rq, size);
	errno = EIO; /* unless another is told */
	if (answer == RANGE_PARTS) {
		r = parts_response(rq, &parts, size);
	} else {
		r = body_of_file(rq, 0, size);
		reply_header(r, "Content-Type", request_type(rq));
	}
	if (!r) {
		int error = errno;

		*ret_again = resource_changed(&rq->resource);
		return *ret_again ? MHD_YES : reply_errno(rq, -error);
	}
	validator_headers(r, &v);
	return reply_send(rq, answer == RANGE_PARTS ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, r);
}
