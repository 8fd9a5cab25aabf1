/* SPDX-License-Identifier: MIT */
#include "httpd/view.h"

#include <stdlib.h>
#include <string.h>

#include "httpd/complete.h"
#include "httpd/page.h"
#include "httpd/path.h"
#include "httpd/reply.h"
#include "httpd/text.h"

bool view_is_asked(const struct request *rq)
{
	const char *query = strchr(rq->target, '?');

	return query && !strcmp(query, "?view");
}

enum view_kind view_kind_of(const char *type)
{
	if (!strncmp(type, "video/", 6))
		return VIEW_VIDEO;
	if (!strncmp(type, "audio/", 6))
		return VIEW_AUDIO;
	if (!strncmp(type, "text/", 5) || !strncmp(type, "application/json", 16) ||
		!strncmp(type, "application/x-ndjson", 20) || !strncmp(type, "application/xml", 15))
		return VIEW_TEXT;
	return VIEW_NONE;
}

static void player(struct text *t, const char *element, const char *name)
{
	text_printf(t, "<%s controls src=\"./", element);
	page_url(t, path_base(name));
	text_printf(t, "\"></%s>\n", element);
}

enum MHD_Result view_answer(struct request *rq)
{
	enum view_kind kind = view_kind_of(request_type(rq));
	struct text t = {0};
	struct MHD_Response *r;

	page_begin(&t, rq->name);
	text_put(&t, "<p><a href=\"./");
	page_url(&t, path_base(rq->name));
	text_put(&t, "\">The file itself</a> <span class=\"state\" role=\"status\"></span></p>\n");
	if (kind == VIEW_TEXT)
		text_put(&t, "<pre aria-label=\"text of the file\"></pre>\n"
			     "<noscript>The file itself follows its writer too.</noscript>\n");
	else if (kind != VIEW_NONE)
		player(&t, kind == VIEW_VIDEO ? "video" : "audio", rq->name);
	page_end(&t, kind == VIEW_TEXT ? PAGE_FOLLOW : PAGE_STILL);
	rq->body_bytes = t.len;
	r = reply_text_response(&t, "text/html; charset=utf-8");
	reply_header(r, "Cache-Control", "no-cache");
	return reply_send(rq, MHD_HTTP_OK, r);
}
