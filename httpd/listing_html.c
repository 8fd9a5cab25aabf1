/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>

#include "httpd/listing.h"
#include "httpd/page.h"
#include "httpd/server.h"
#include "httpd/view.h"

static void cell_name(const struct request *rq, const struct listing_entry *e, struct text *t)
{
	enum view_kind kind =
		e->directory ? VIEW_NONE : view_kind_of(mime_of_name(rq->server->mime, e->name));

	text_put(t, "<td class=\"name\"><a href=\"./");
	page_url(t, e->name);
	text_put(t, e->directory ? "/\">" : "\">");
	text_html(t, e->name);
	text_put(t, e->directory ? "/</a>" : "</a>");
	if (kind != VIEW_NONE) {
		text_put(t, " <a class=\"view\" href=\"./");
		page_url(t, e->name);
		text_printf(t, "?view\">%s</a>", kind == VIEW_TEXT ? "follow" : "play");
	}
	text_put(t, "</td>");
}

static void cell_size(const struct listing_entry *e, struct text *t)
{
	if (e->directory) {
		text_put(t, "<td class=\"size\"></td>");
		return;
	}
	text_printf(t, "<td class=\"size\" title=\"%" PRIu64 " bytes\">", e->size);
	page_size(t, e->size);
	if (e->declared) {
		text_put(t, " of ");
		page_size(t, e->declared_size);
	}
	text_put(t, "</td>");
}

static void row(const struct request *rq, const struct listing_entry *e, struct text *t)
{
	bool ended = e->state == STATE_PLAIN || e->state == STATE_COMPLETE;
	char when[32];
	struct tm tm;

	gmtime_r(&e->modified.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	text_put(t, "<tr data-name=\"");
	text_html(t, e->name);
	text_put(t, "\">");
	cell_name(rq, e, t);
	text_printf(t, "<td><span class=\"state %s\">%s</span></td>", state_name(e->state),
		ended ? "" : state_name(e->state));
	cell_size(e, t);
	text_printf(t, "<td class=\"time\">%s</td></tr>\n", when);
}

void listing_html(const struct request *rq, const struct listing *l, struct text *ret)
{
	page_begin(ret, rq->name);
	text_put(ret,
		"<table>\n<thead><tr><th scope=\"col\">Name</th><th scope=\"col\">State</th>"
		"<th scope=\"col\" class=\"size\">Size</th>"
		"<th scope=\"col\" class=\"time\">Changed (UTC)</th></tr></thead>\n<tbody>\n");
	if (*rq->name)
		text_put(ret, "<tr><td class=\"name\"><a href=\"../\">../</a></td><td></td>"
			      "<td class=\"size\"></td><td class=\"time\"></td></tr>\n");
	for (size_t i = 0; i < l->count; i++)
		row(rq, &l->entries[i], ret);
	text_put(ret, "</tbody>\n</table>\n");
	if (!l->count)
		text_put(ret, "<p class=\"empty\">Nothing here yet.</p>\n");
	page_end(ret, PAGE_LISTING);
}
