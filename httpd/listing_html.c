/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "httpd/listing.h"
#include "httpd/page.h"
#include "httpd/server.h"
#include "httpd/view.h"

static void cell_name(const struct request *rq, const struct listing_entry *e, struct text *t)
{
	enum view_kind kind = e->directory ? VIEW_NONE : view_kind_of(rq->server->mime, e->name);
	const char *verb = kind == VIEW_TEXT ? "view" : "play";

	text_put(t, "<th scope=\"row\" class=\"name\"><a href=\"./");
	page_url(t, e->name);
	text_put(t, e->directory ? "/\">" : "\">");
	page_name(t, e->name);
	text_put(t, e->directory ? "/</a>" : "</a>");
	if (kind != VIEW_NONE) {
		text_put(t, " <a class=\"view\" href=\"./");
		page_url(t, e->name);
		text_printf(t, "?view\" aria-label=\"%s ", verb);
		text_html(t, e->name);
		text_printf(t, "\">%s</a>", verb);
	}
	text_put(t, "</th>");
}

static void html_entry(const struct request *rq, const struct listing_entry *e, struct text *t)
{
	char when[32];
	struct tm tm = listing_time(e);

	text_put(t, "<tr>");
	cell_name(rq, e, t);
	text_put(t, "<td>");
	if (!e->directory)
		page_state(t, &e->progress);
	text_put(t, "</td><td class=\"size\">");
	if (!e->directory)
		page_progress(t, &e->progress);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	text_printf(t, "</td><td class=\"time\">%s</td></tr>\n", when);
}

/* "3 files, 1 growing" */
static void summary(const struct listing *l, struct text *t)
{
	size_t files = 0, growing = 0;

	for (size_t i = 0; i < l->count; i++) {
		files += !l->entries[i].directory;
		growing += l->entries[i].progress.state == STATE_GROWING;
	}
	text_put(t, "<p class=\"note\" role=\"status\">");
	if (!l->count)
		text_put(t, "Nothing here yet");
	else
		text_printf(t, "%zu %s", files, files == 1 ? "file" : "files");
	if (growing)
		text_printf(t, ", %zu growing", growing);
	text_put(t, "</p>\n<noscript><p class=\"note\">Reload this page to see how things are "
		    "then.</p></noscript>\n");
}

static void html_begin(const struct request *rq, const struct listing *l, struct text *t)
{
	page_begin(t, rq->name);
	summary(l, t);
	text_put(t, "<table id=\"files\" aria-label=\"files\">\n<thead><tr><th scope=\"col\" "
		    "class=\"name\">Name</th>"
		    "<th scope=\"col\">State</th><th scope=\"col\" class=\"size\">Size</th>"
		    "<th scope=\"col\" class=\"time\">Changed (UTC)</th></tr></thead>\n<tbody>\n");
	if (*rq->name)
		text_put(t, "<tr><th scope=\"row\" class=\"name\"><a href=\"../\" "
			    "aria-label=\"parent folder\">../</a></th><td></td>"
			    "<td class=\"size\"></td><td class=\"time\"></td></tr>\n");
}

static void html_end(struct text *t)
{
	text_put(t, "</tbody>\n</table>\n");
	page_end(t, PAGE_LISTING);
}

const struct listing_form listing_html = {html_begin, html_entry, html_end};
