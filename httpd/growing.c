/* SPDX-License-Identifier: MIT */
/*
 * A growing file has a Content-Length only when its writer declared one, no validator, and ranges
 * that may not exist yet. range_of_growing() says what a range means; where it says PLAN_HOLD the
 * whole request is held and looked at again when the byte is there or the file has ended.
 */
#include "httpd/growing.h"

#include <errno.h>
#include <inttypes.h>

#include "httpd/await.h"
#include "httpd/body.h"
#include "httpd/complete.h"
#include "httpd/range.h"
#include "httpd/reader.h"
#include "httpd/reply.h"
#include "httpd/server.h"
#include "httpd/view.h"

#define BEHIND_MS 1 /* between looks whether the follow thread knows it, too */

static int follow_resource(struct request *rq)
{
	struct live *live;
	int r = follow_live(rq->server->follow, rq->resource.fd, &rq->resource.st, &live);

	if (!r)
		request_follow(rq, live);
	return r;
}

static void common_headers(struct request *rq, struct MHD_Response *r, const struct live_view *view)
{
	reply_header(r, "Content-Type", request_type(rq));
	reply_header(r, "Cache-Control", "no-store");
	reply_header(r, "Accept-Ranges", "bytes");
	reply_header(r, "X-Rww-State", state_name(view->state));
	reply_header(r, "X-Accel-Buffering", "no"); /* nginx passes on what comes, as others do */
}

/* A length of 0 would be kept at once, whatever becomes of the file. */
static enum MHD_Result whole(struct request *rq, const struct live_view *view)
{
	bool has_length = view->declared && view->size;
	struct MHD_Response *r =
		body_of_live(rq, view, 0, UINT64_MAX, has_length ? view->size : MHD_SIZE_UNKNOWN);

	common_headers(rq, r, view);
	return reply_send(rq, MHD_HTTP_OK, r);
}

/* With a length the body has exactly that; without, the writer may still decide how long it is, and
 * of an aborted file it has no end at all but a cut. */
static enum MHD_Result part(struct request *rq, const struct live_view *view,
	const struct range *range, enum range_plan plan)
{
	bool has_length = plan == PLAN_PART || view->declared;
	uint64_t last = plan == PLAN_CUT ? UINT64_MAX : range->last;
	struct MHD_Response *r = body_of_live(rq, view, range->first, last,
		has_length ? range->last - range->first + 1 : MHD_SIZE_UNKNOWN);

	common_headers(rq, r, view);
	if (view->declared)
		reply_headerf(r, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
			range->first, range->last, view->size);
	else
		reply_headerf(r, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/*", range->first,
			range->last);
	return reply_send(rq, MHD_HTTP_PARTIAL_CONTENT, r);
}

static enum range_plan plan_of(
	struct request *rq, const struct live_view *view, bool range_counts, struct range *ret)
{
	struct range_growing file = {.edge = view->edge,
		.declared = view->declared,
		.aborted = view->state == STATE_ABORTED,
		.size = view->size};
	struct range_set set;

	/* Media players ask for "0-" and take the answer for all of it: theirs is "?live". */
	if (!range_counts || view_is_live(rq) || !request_range(rq, &set))
		return PLAN_WHOLE;
	return range_of_growing(&set, &file, ret);
}

/* The follow thread hears of a write, a cut, a promise or an end a moment after the mount knows of
 * it, and later when it is busy: what it knows may be older than the request. Only where that
 * differs from what the mount told when the file was opened, which may be the older one, the mount
 * is asked. Where the edge is, matters to ranges. */
static bool is_behind(const struct request *rq, const struct live_view *view, enum range_plan plan)
{
	const struct progress *told = &rq->resource.told;
	bool shorter = plan != PLAN_WHOLE && view->edge < told->edge;
	struct live_view now;

	if (view->state != STATE_GROWING)
		return false;
	if (!shorter && told->state == STATE_GROWING && view->cuts == told->cuts &&
		view->declared == told->declared && view->size == told->size)
		return false;
	return live_look(rq->live, &now) &&
	       ((shorter && now.edge > view->edge) || now.state != STATE_GROWING || now.truncated ||
		       now.declared != view->declared || now.size != view->size);
}

/* After PLAN_HOLD: true when there is an answer, in *ret_result. Who resumes a download takes 416
 * for the news that he has all of it (curl -C, wget -c): it is for those who know that they wait.
 */
static bool hold(struct request *rq, uint64_t offset, uint64_t edge, enum MHD_Result *ret_result)
{
	bool asked = await_limit(rq);

	if (await_is_over(rq)) {
		*ret_result = asked ? reply_unsatisfiable(rq, edge)
				    : reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE,
					      "This range is not there yet.");
		return true;
	}
	switch (follow_hold(&rq->waiter, rq->live, offset, rq->wait_until_ms)) {
	case HOLD_HELD:
		*ret_result = MHD_YES;
		return true;
	case HOLD_GONE:
		reader_note_gone(rq);
		*ret_result = MHD_NO;
		return true;
	case HOLD_READY:
		break;
	}
	return false;
}

static enum MHD_Result answer(struct request *rq, const struct live_view *view,
	enum range_plan plan, const struct range *range)
{
	switch (plan) {
	case PLAN_PART:
	case PLAN_OPEN:
	case PLAN_CUT:
		return part(rq, view, range, plan);
	case PLAN_FAILED:
		return reply_error(rq, MHD_HTTP_INTERNAL_SERVER_ERROR,
			"The writer of this file failed before it came to this range.");
	case PLAN_UNSATISFIABLE:
		return reply_unsatisfiable(rq, view->declared ? view->size : view->edge);
	case PLAN_WHOLE:
	case PLAN_HOLD:
		break;
	}
	return whole(rq, view);
}

enum MHD_Result growing_answer(struct request *rq, bool *ret_again)
{
	static const struct validator none;
	enum MHD_Result result;
	bool range_counts;
	int r = rq->live && !rq->live->directory ? 0 : follow_resource(rq);

	if (r == -EAGAIN) { /* the store takes its time for it, as it may again */
		*ret_again = true;
		return MHD_YES;
	}
	if (r < 0)
		return reply_errno(rq, r);
	r = request_conditions(rq, &none, &range_counts);
	if (r < 0)
		return reply_errno(rq, r);
	switch ((enum condition_result)r) {
	case CONDITION_NOT_MODIFIED:
		return reply_not_modified(rq, &none);
	case CONDITION_FAILED:
		return reply_error(rq, MHD_HTTP_PRECONDITION_FAILED, NULL);
	case CONDITION_PROCEED:
		break;
	}
	for (;;) {
		struct live_view view;
		struct range range;
		enum range_plan plan;

		live_view(rq->live, &view);
		if (view.lost)
			return reply_errno(rq, -ENOTCONN);
		if (view.state == STATE_COMPLETE || view.truncated) {
			*ret_again = true;
			return MHD_YES;
		}
		plan = plan_of(rq, &view, range_counts, &range);
		if (is_behind(rq, &view, plan)) {
			r = reader_held(rq, follow_delay(&rq->waiter, BEHIND_MS));
			if (r)
				return r > 0 ? MHD_YES : MHD_NO;
			continue;
		}
		if (plan != PLAN_HOLD) {
			resource_close(&rq->resource); /* the live has its own, for all */
			return answer(rq, &view, plan, &range);
		}
		if (hold(rq, range.last, view.edge, &result))
			return result;
	}
}
