/* SPDX-License-Identifier: MIT */
/* {"path": "a/b", "entries": [{"name", "href", "type", "size", "modified", "state", "declared"}]}.
 * A name that is not UTF-8 cannot be told in JSON; href leads to it all the same. */
#include <inttypes.h>
#include <stdlib.h>

#include "httpd/listing.h"
#include "httpd/page.h"

static void json_entry(const struct request *rq, const struct listing_entry *e, struct text *t)
{
	char when[32];
	struct tm tm = listing_time(e);

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	text_put(t, e == rq->listing->entries ? "\n" : ",\n");
	text_put(t, "{\"name\":");
	text_json(t, e->name);
	text_put(t, ",\"href\":\"./");
	page_url(t, e->name);
	text_printf(t, "%s\",\"type\":\"%s\"", e->directory ? "/" : "",
		e->directory ? "directory" : "file");
	if (!e->directory)
		text_printf(t, ",\"size\":%" PRIu64 ",\"state\":\"%s\"", e->progress.edge,
			state_name(e->progress.state));
	if (e->progress.declared)
		text_printf(t, ",\"declared\":%" PRIu64, e->progress.size);
	text_printf(t, ",\"modified\":\"%s.%03ldZ\"}", when, e->modified.tv_nsec / 1000000);
}

static void json_begin(const struct request *rq, const struct listing *l, struct text *t)
{
	text_put(t, "{\"path\":");
	text_json(t, rq->name);
	text_put(t, ",\"entries\":[");
}

static void json_end(struct text *t)
{
	text_put(t, "\n]}\n");
}

const struct listing_form listing_json = {json_begin, json_entry, json_end};
