/* SPDX-License-Identifier: MIT */
#include "httpd/page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "httpd/path.h"
#include "page_data.h"

void page_url(struct text *t, const char *name)
{
	size_t size = strlen(name) * 3 + 1;
	autofree char *url = malloc(size);

	if (url && path_encode(name, url, size))
		text_put(t, url);
	else
		t->failed = true;
}

void page_size(struct text *t, uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	unsigned i = 0;

	while (value >= 1024 && i < 6) {
		value /= 1024;
		i++;
	}
	if (i && value < 100)
		text_printf(t, "%.1f %s", value, units[i]);
	else
		text_printf(t, "%" PRIu64 " %s", (uint64_t)value, units[i]);
}

/* "/ a / b", each but the last a link. */
static void breadcrumb(struct text *t, const char *name)
{
	autofree char *up = strdup(name);
	size_t at = 0;

	text_put(t, *name ? "<a href=\"/\">/</a> " : "/");
	while (up && name[at]) {
		size_t len = strcspn(name + at, "/");
		bool last = !name[at + len] || !name[at + len + 1];

		memcpy(up, name, at + len);
		up[at + len] = '\0';
		if (!last) {
			text_put(t, "<a href=\"/");
			page_url(t, up);
			text_put(t, "/\">");
		}
		text_html(t, up + at);
		text_put(t, last ? "" : "</a> / ");
		at += len + (name[at + len] == '/');
	}
}

void page_begin(struct text *t, const char *name)
{
	text_put(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>/");
	text_html(t, name);
	text_put(t, "</title>\n<style>\n");
	text_put(t, page_style_css);
	text_put(t, "</style>\n</head>\n<body>\n<main>\n<h1>");
	breadcrumb(t, name);
	text_put(t, "</h1>\n");
}

void page_end(struct text *t, enum page_script script)
{
	text_put(t, "</main>\n<footer>rww-httpd " RWWFS_VERSION "</footer>\n");
	if (script != PAGE_STILL) {
		text_put(t, "<script>\n");
		text_put(t, script == PAGE_LISTING ? page_listing_js : page_follow_js);
		text_put(t, "</script>\n");
	}
	text_put(t, "</body>\n</html>\n");
}
