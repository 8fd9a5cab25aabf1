/* SPDX-License-Identifier: MIT */
/*
 * A directory as an answer: a page for people, JSON for programs. Names, sizes, times and states
 * are gathered once per request, and written, of a large directory in turns between which the
 * worker serves others (listing.c); how they look is in listing_html.c and listing_json.c.
 */
#ifndef HTTPD_LISTING_H
#define HTTPD_LISTING_H

#include <dirent.h>
#include <time.h>

#include "httpd/request.h"
#include "httpd/text.h"

struct listing_entry {
	char *name;
	bool directory;
	struct progress progress; /* of a file */
	struct timespec modified;
};

struct listing {
	DIR *dir; /* read so far; NULL: all of it */
	size_t count;
	struct listing_entry *entries; /* directories first, then by name */
	size_t written;                /* so many, in text; their names are freed */
	struct text text;
};

struct listing_form {
	void (*begin)(const struct request *rq, const struct listing *l, struct text *t);
	void (*entry)(const struct request *rq, const struct listing_entry *e, struct text *t);
	void (*end)(struct text *t);
};

extern const struct listing_form listing_html, listing_json;

/* rq->resource is an open directory, or rq->listing was begun. May hold the request. */
enum MHD_Result listing_answer(struct request *rq);
/* l may be NULL. */
void listing_free(struct listing *l);
bool listing_wants_json(const struct request *rq);

/* When it was modified, in UTC; the year 1970 when that year has no number. */
struct tm listing_time(const struct listing_entry *e);

#endif
