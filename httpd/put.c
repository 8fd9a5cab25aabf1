/* SPDX-License-Identifier: MIT */
#include "httpd/put.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/parse.h"
#include "httpd/complete.h"
#include "httpd/path.h"
#include "httpd/reply.h"
#include "httpd/root.h"
#include "httpd/server.h"

/* What is still read after an upload failed, so that a client that only reads when all is sent
 * comes to see why. */
#define DROP_MAX (UINT64_C(64) << 20)

static bool has_query(const struct request *rq, const char *word)
{
	const char *query = strchr(rq->target, '?');

	return query && !strcmp(query + 1, word);
}

static bool has_conditions(const struct request *rq)
{
	return request_has_header(rq, MHD_HTTP_HEADER_IF_MATCH) ||
	       request_has_header(rq, MHD_HTTP_HEADER_IF_NONE_MATCH) ||
	       request_has_header(rq, MHD_HTTP_HEADER_IF_UNMODIFIED_SINCE);
}

/* -EAGAIN: it has a writer, and so no validator. */
static bool cannot_be_told(int error)
{
	return error != -EAGAIN && reply_status_of_errno(error) >= 500;
}

/* If-Match and If-None-Match, which keep two writers from overwriting each other (RFC 9110 section
 * 13.1): 0 when they hold, -ECANCELED when not, or why that cannot be told. */
static int conditions_look(struct request *rq)
{
	struct resource old = {.fd = -1};
	struct validator v = {0};
	struct timespec now;
	bool unused;
	int r;

	if (!has_conditions(rq))
		return 0;
	r = resource_open(rq->server, rq->name, 0, &old);
	if (r == -ENOENT || r == -ENOTDIR)
		return request_has_header(rq, MHD_HTTP_HEADER_IF_MATCH) ? -ECANCELED : 0;
	if (r < 0 && cannot_be_told(r))
		return r;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	if (!r && S_ISREG(old.st.st_mode) &&
		(old.state == STATE_PLAIN || old.state == STATE_COMPLETE))
		validator_of_stat(&old.st, &now, &v);
	resource_close(&old);
	r = request_conditions(rq, &v, &unused);
	if (r < 0)
		return r;
	return r == CONDITION_PROCEED ? 0 : -ECANCELED;
}

static int make_parents(struct request *rq)
{
	int fd = has_query(rq, "parents") ? root_open_parent(rq->server->root, rq->name, true) : -1;

	if (fd >= 0)
		(void)close(fd); /* O_PATH: nothing can fail */
	return has_query(rq, "parents") && fd < 0 ? fd : 0;
}

static bool size_of_request(struct request *rq, uint64_t *ret)
{
	autofree char *length = request_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);

	*ret = UPLOAD_SIZE_UNKNOWN;
	if (length)
		return !parse_u64(length, ret);
	if (!request_has_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH) && /* or no memory for it */
		!request_has_header(rq, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		*ret = 0;
	return true;
}

/* A body that ends with the connection cannot be told from one that broke off. */
static bool size_is_told(const struct request *rq)
{
	return !request_is_http_1_0(rq) || request_has_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);
}

static bool is_too_large(const struct request *rq, uint64_t size)
{
	uint64_t limit = rq->server->options->upload_limit;

	return limit && size != UPLOAD_SIZE_UNKNOWN && size > limit;
}

/* A name that no file can have is not one that is missing. Below a file there is nothing either,
 * but the way to it is what is wrong (RFC 4918 section 9.7.1). */
static enum MHD_Result reply_unmade(struct request *rq, int error)
{
	if (error == -ENOTDIR)
		return reply_error(
			rq, MHD_HTTP_CONFLICT, "There is a file where a directory is needed.");
	return error == -ENAMETOOLONG ? reply_error(rq, MHD_HTTP_URI_TOO_LONG, NULL)
				      : reply_errno(rq, error);
}

enum MHD_Result put_begin(struct request *rq)
{
	uint64_t size;
	int r;

	if (request_has_header(rq, MHD_HTTP_HEADER_CONTENT_RANGE)) /* RFC 9110 section 14.5 */
		return reply_error(rq, MHD_HTTP_BAD_REQUEST, "A PUT of a part is not supported.");
	if (rq->directory || !*rq->name)
		return reply_error(rq, MHD_HTTP_CONFLICT, "This is the name of a directory.");
	if (!size_is_told(rq))
		return reply_error(rq, MHD_HTTP_LENGTH_REQUIRED, NULL);
	if (!size_of_request(rq, &size) || is_too_large(rq, size))
		return reply_error(rq, MHD_HTTP_CONTENT_TOO_LARGE, NULL);
	rq->condition = (struct upload_condition){conditions_look, rq};
	r = conditions_look(rq);
	if (!r)
		r = make_parents(rq);
	if (!r)
		r = upload_new(rq->server, rq->name, size,
			has_conditions(rq) ? &rq->condition : NULL, &rq->upload);
	if (r == -ECANCELED)
		return reply_error(rq, MHD_HTTP_PRECONDITION_FAILED, NULL);
	if (r == -ENOENT)
		return reply_error(
			rq, MHD_HTTP_CONFLICT, "The directory does not exist; ?parents makes it.");
	if (r < 0)
		return reply_unmade(rq, r);
	atomic_fetch_add(&rq->server->metrics.uploads, 1);
	return MHD_YES;
}

static void put_fail(struct request *rq, const char *reason)
{
	rq->outcome = OUTCOME_ABORTED;
	atomic_fetch_add(&rq->server->metrics.uploads_broken, 1);
	upload_abort(steal_ptr(&rq->upload), reason);
}

enum MHD_Result put_data(struct request *rq, const char *data, size_t *size)
{
	uint64_t limit = rq->server->options->upload_limit;
	size_t n = *size;
	char reason[80];
	int r;

	*size = 0;
	rq->received += n;
	if (!rq->upload) {
		rq->dropped += n;
		return rq->dropped > DROP_MAX ? MHD_NO : MHD_YES;
	}
	r = limit && rq->received > limit ? -EFBIG : upload_write(rq->upload, data, n);
	if (r >= 0)
		return MHD_YES;
	snprintf(reason, sizeof(reason), "upload: %s", strerror(-r));
	put_fail(rq, reason);
	return reply_early(rq, r);
}

enum MHD_Result put_answer(struct request *rq)
{
	bool created;
	int r = upload_finish(steal_ptr(&rq->upload), &created);

	if (r == -ECANCELED)
		return reply_error(rq, MHD_HTTP_PRECONDITION_FAILED, NULL);
	if (r == -ENOENT)
		return reply_error(rq, MHD_HTTP_CONFLICT, "The directory does not exist any more.");
	return r < 0 ? reply_errno(rq, r)
		     : reply_empty(rq, created ? MHD_HTTP_CREATED : MHD_HTTP_NO_CONTENT);
}

void put_end(struct request *rq)
{
	if (rq->upload)
		put_fail(rq, "the upload broke off");
}

static int remove_name(struct request *rq)
{
	autoclose int parent = root_open_parent(rq->server->root, rq->name, false);
	const char *base = path_base(rq->name);

	if (parent < 0)
		return parent;
	if (!rq->directory && !unlinkat(parent, base, 0))
		return 0;
	if (!rq->directory && errno != EISDIR)
		return -errno;
	return unlinkat(parent, base, AT_REMOVEDIR) ? -errno : 0;
}

/* What its conditions were looked at for, no upload replaces meanwhile; nor is it gone for one that
 * looked at it. */
static int remove_unchanged(struct request *rq)
{
	SCOPED_LOCK(&rq->server->uploads.lock);
	int r = conditions_look(rq);

	return r ? r : remove_name(rq);
}

enum MHD_Result delete_answer(struct request *rq)
{
	int r;

	if (!*rq->name)
		return reply_error(rq, MHD_HTTP_FORBIDDEN, NULL);
	r = remove_unchanged(rq);
	if (r == -ECANCELED)
		return reply_error(rq, MHD_HTTP_PRECONDITION_FAILED, NULL);
	return r < 0 ? reply_errno(rq, r) : reply_empty(rq, MHD_HTTP_NO_CONTENT);
}

/* RFC 4918 section 9.3: 405 when it exists, 409 when a parent is missing. */
enum MHD_Result mkcol_answer(struct request *rq)
{
	int r = *rq->name ? make_parents(rq) : -EEXIST;

	if (!r) {
		autoclose int parent = root_open_parent(rq->server->root, rq->name, false);

		r = parent < 0 ? parent : mkdirat(parent, path_base(rq->name), 0777) ? -errno : 0;
	}
	if (r == -EEXIST)
		return reply_error(rq, MHD_HTTP_METHOD_NOT_ALLOWED, "It exists.");
	if (r == -ENOENT)
		return reply_error(rq, MHD_HTTP_CONFLICT, "The directory above does not exist.");
	return r < 0 ? reply_unmade(rq, r) : reply_empty(rq, MHD_HTTP_CREATED);
}
