/* SPDX-License-Identifier: MIT */
#include "httpd/page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "httpd/path.h"
#include "httpd/reply.h"
#include "page_data.h"

/* Three bars that become longer. */
#define ICON                                                                                       \
	"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"      \
	"%3Cpath d='M1 2h6v3H1zM1 6.5h10v3H1zM1 11h14v3H1z' fill='%231a9c5b'/%3E%3C/svg%3E"

void page_url(struct text *t, const char *name)
{
	size_t size = strlen(name) * 3 + 1;
	autofree char *url = malloc(size);

	if (url && path_encode(name, url, size))
		text_put(t, url);
	else
		t->failed = true;
}

/* The control pictures of Unicode begin at U+2400; that of DEL is U+2421. */
static void visible(struct text *t, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		char one[2] = {name[i]};

		if (c < 0x20 || c == 0x7f)
			text_printf(t, "&#%u;", 0x2400 + (c == 0x7f ? 0x21u : c));
		else
			text_html(t, one);
	}
}

void page_name(struct text *t, const char *name)
{
	text_put(t, "<bdi>");
	visible(t, name, strlen(name));
	text_put(t, "</bdi>");
}

static void size(struct text *t, uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	unsigned i = 0;

	while (value >= 1024 && i < 6) {
		value /= 1024;
		i++;
	}
	if (i && value < 100)
		text_printf(t, "%.1f&nbsp;%s", value, units[i]);
	else
		text_printf(t, "%" PRIu64 "&nbsp;%s", (uint64_t)value, units[i]);
}

void page_state(struct text *t, const struct progress *p)
{
	if (p->state != STATE_PLAIN)
		text_printf(t, "<span class=\"state %s\">%s</span>", state_name(p->state),
			state_name(p->state));
	else
		text_put(t, "<span class=\"state\"></span>");
}

void page_progress(struct text *t, const struct progress *p)
{
	text_put(t, "<span class=\"extent\">");
	if (p->declared && p->size && p->state == STATE_GROWING)
		text_printf(t,
			"<progress max=\"%" PRIu64 "\" value=\"%" PRIu64
			"\" aria-label=\"how much is there\"></progress>",
			p->size, p->edge);
	text_printf(t, "<span title=\"%" PRIu64 " bytes\">", p->edge);
	size(t, p->edge);
	if (p->declared) {
		text_put(t, " of&nbsp;");
		size(t, p->size);
	}
	text_put(t, "</span></span>");
}

/* "files / a / b", each but the last a link. */
static void breadcrumb(struct text *t, const char *name)
{
	const char *part = name;

	text_put(t, *name ? "<a href=\"/\">files</a>" : "files");
	while (*part) {
		size_t len = strcspn(part, "/");
		bool last = !part[len] || !part[len + 1];

		text_put(t, "<i>/</i>");
		if (!last) {
			autofree char *up = strndup(name, (size_t)(part - name) + len);

			text_put(t, "<a href=\"/");
			page_url(t, up ? up : "");
			text_put(t, "/\">");
		}
		text_put(t, "<bdi>");
		visible(t, part, len);
		text_put(t, last ? "</bdi>" : "</bdi></a>");
		part += len + (part[len] == '/');
	}
}

void page_begin(struct text *t, const char *name)
{
	text_put(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		    "<title>");
	if (*name)
		visible(t, name, strlen(name));
	else
		text_put(t, "files");
	text_put(t, "</title>\n<link rel=\"icon\" href=\"" ICON "\">\n<style>");
	text_put(t, page_style_css);
	text_put(t, "</style>\n</head>\n<body>\n<main>\n<h1>");
	breadcrumb(t, name);
	text_put(t, "</h1>\n");
}

void page_end(struct text *t, enum page_script script)
{
	text_put(t, "</main>\n<footer>rww-httpd " RWWFS_VERSION "</footer>\n<script>");
	text_put(t, script == PAGE_LISTING ? page_listing_js : page_view_js);
	text_put(t, "</script>\n</body>\n</html>\n");
}

struct MHD_Response *page_response(struct text *t)
{
	struct MHD_Response *r = reply_text_response(t, "text/html; charset=utf-8");

	reply_header(r, "Content-Security-Policy", page_csp);
	return r;
}
