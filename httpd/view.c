/* SPDX-License-Identifier: MIT */
#include "httpd/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "httpd/page.h"
#include "httpd/path.h"
#include "httpd/reply.h"
#include "httpd/server.h"

/* Text before this many of the last bytes is left out at first. */
#define SHOWN (256 * 1024)

static bool query_is(const struct request *rq, const char *wanted)
{
	const char *query = strchr(rq->target, '?');

	return query && !strcmp(query + 1, wanted);
}

bool view_is_asked(const struct request *rq)
{
	return query_is(rq, "view");
}

bool view_is_live(const struct request *rq)
{
	return query_is(rq, "live");
}

enum view_kind view_kind_of(const struct mime *mime, const char *name)
{
	const char *type = mime_of_name(mime, name);

	if (!strncmp(type, "video/", 6))
		return VIEW_VIDEO;
	if (!strncmp(type, "audio/", 6))
		return VIEW_AUDIO;
	if (!strncmp(type, "text/", 5) || !strncmp(type, "application/json", 16) ||
		!strncmp(type, "application/x-ndjson", 20) ||
		!strncmp(type, "application/xml", 15) || !strchr(path_base(name), '.'))
		return VIEW_TEXT;
	return VIEW_NONE;
}

static void player(struct text *t, const char *element, const char *name)
{
	text_printf(t, "<%s controls src=\"./", element);
	page_url(t, path_base(name));
	text_put(t, "?live\" aria-label=\"");
	text_html(t, path_base(name));
	text_printf(t, "\"></%s>\n", element);
}

static void text_box(struct text *t, uint64_t size)
{
	uint64_t from = size > SHOWN ? size - SHOWN : 0;

	text_printf(t,
		"<p class=\"note\" id=\"early\"%s>The text begins earlier: only its last "
		"part is shown.</p>\n",
		from ? "" : " hidden");
	text_printf(t,
		"<pre id=\"text\" tabindex=\"0\" role=\"log\" aria-label=\"text of the file\" "
		"data-from=\"%" PRIu64 "\"></pre>\n",
		from);
	text_put(t, "<noscript><p>Without JavaScript: the file itself grows in the browser, "
		    "too.</p></noscript>\n<div id=\"end\"></div>\n");
}

enum MHD_Result view_answer(struct request *rq)
{
	enum view_kind kind = view_kind_of(rq->server->mime, rq->name);
	struct progress p;
	struct text t = {0};
	struct MHD_Response *r;
	int error = state_or_plain(rq->resource.fd, (uint64_t)rq->resource.st.st_size, &p);

	if (error < 0)
		return reply_errno(rq, error);
	page_begin(&t, rq->name);
	text_put(&t, "<div class=\"bar\"><span role=\"status\">");
	page_state(&t, &p);
	text_printf(&t, "</span> <data class=\"size\" value=\"%" PRIu64 "\" data-file=\"%ju.%ju\">",
		p.edge, (uintmax_t)rq->resource.st.st_ino, (uintmax_t)p.cuts);
	page_progress(&t, &p);
	text_put(&t, "</data> <a href=\"./");
	page_url(&t, path_base(rq->name));
	text_put(&t, "\">The file itself</a>");
	if (kind == VIEW_TEXT)
		text_put(&t, " <a href=\"#end\">To the end</a>");
	text_put(&t, "</div>\n");
	if (kind == VIEW_TEXT)
		text_box(&t, p.edge);
	else if (kind != VIEW_NONE)
		player(&t, kind == VIEW_VIDEO ? "video" : "audio", rq->name);
	page_end(&t, PAGE_VIEW);
	rq->body_bytes = t.len;
	r = page_response(&t);
	reply_header(r, "Cache-Control", "no-cache");
	return reply_send(rq, MHD_HTTP_OK, r);
}
