/* SPDX-License-Identifier: MIT */
/* {"path": "a/b", "entries": [{"name", "href", "type", "size", "modified", "state", "declared"}]}.
 * A name that is not UTF-8 cannot be told in JSON; href leads to it all the same. */
#include <inttypes.h>
#include <stdlib.h>

#include "httpd/listing.h"
#include "httpd/page.h"

static void entry_json(const struct listing_entry *e, struct text *t)
{
	char when[32];
	struct tm tm = listing_time(e);

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
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

void listing_json(const struct request *rq, const struct listing *l, struct text *ret)
{
	text_put(ret, "{\"path\":");
	text_json(ret, rq->name);
	text_put(ret, ",\"entries\":[");
	for (size_t i = 0; i < l->count; i++) {
		text_put(ret, i ? ",\n" : "\n");
		entry_json(&l->entries[i], ret);
	}
	text_put(ret, "\n]}\n");
}
