/* SPDX-License-Identifier: MIT */
#include "httpd/validator.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "httpd/httpdate.h"

/* Longer than the coarsest clock tick of the kernel (CONFIG_HZ=100): once a change is older than
 * this, the next one has another timestamp. */
#define TICK_NS 20000000
/* The same where times are whole seconds, or pairs of them: ext4 with small inodes, FAT. */
#define COARSE_NS 2000000000

/* Of a time some 292 years from 1970 they begin anew: for a tag as good as any. */
static int64_t nanoseconds(const struct timespec *t)
{
	return (int64_t)((uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec);
}

void validator_of_stat(const struct stat *st, const struct timespec *now, struct validator *ret)
{
	int64_t changed = nanoseconds(&st->st_ctim), modified = nanoseconds(&st->st_mtim);
	bool weak = nanoseconds(now) - changed < (st->st_ctim.tv_nsec ? TICK_NS : COARSE_NS);
	char moment[sizeof("-0123456789abcdef")] = "";

	/* What changes yet in this tick has these times, too: the tag is of this answer alone, or
	 * somebody would later be told that he has the file. */
	if (weak)
		snprintf(moment, sizeof(moment), "-%" PRIx64, (uint64_t)nanoseconds(now));
	ret->present = true;
	ret->modified = st->st_mtim.tv_sec;
	if (ret->modified > now->tv_sec) /* RFC 9110 section 8.8.2.1 */
		ret->modified = now->tv_sec;
	snprintf(ret->etag, sizeof(ret->etag),
		"%s\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "%s\"", weak ? "W/" : "",
		(uint64_t)st->st_ino, (uint64_t)st->st_size, (uint64_t)modified, (uint64_t)changed,
		moment);
}

static bool is_weak(const char *tag)
{
	return tag[0] == 'W' && tag[1] == '/';
}

/* One entity-tag at *p, past it on return; NULL when it is malformed. */
static const char *tag_at(const char **p, size_t *len)
{
	const char *tag = *p, *q = tag + (is_weak(tag) ? 2 : 0);

	if (*q++ != '"')
		return NULL;
	while (*q && *q != '"')
		q++;
	if (*q++ != '"')
		return NULL;
	*len = (size_t)(q - tag);
	*p = q;
	return tag;
}

static bool tags_match(const char *tag, size_t len, const char *etag, bool strong)
{
	bool weak = is_weak(tag) || is_weak(etag);

	if (strong && weak)
		return false;
	if (is_weak(tag)) {
		tag += 2;
		len -= 2;
	}
	if (is_weak(etag))
		etag += 2;
	return strlen(etag) == len && !memcmp(tag, etag, len);
}

static const char *skip_separators(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == ',')
		p++;
	return p;
}

/* Whether the list "*" or 1#entity-tag names v. What follows a malformed tag is not looked at. */
static bool list_matches(const char *list, const struct validator *v, bool strong)
{
	const char *p = skip_separators(list);
	size_t len;

	if (*p == '*')
		return true;
	while (*p) {
		const char *tag = tag_at(&p, &len);

		if (!tag)
			return false;
		if (v->present && tags_match(tag, len, v->etag, strong))
			return true;
		p = skip_separators(p);
	}
	return false;
}

static bool modified_after(const struct validator *v, const char *date, time_t now, bool otherwise)
{
	time_t when;

	if (!v->present || httpdate_parse(date, now, &when))
		return otherwise; /* not a valid date, or nothing to compare: to be ignored */
	return v->modified > when;
}

enum condition_result conditions_check(
	const struct conditions *c, const struct validator *v, bool reading, time_t now)
{
	if (c->if_match) {
		if (!list_matches(c->if_match, v, true))
			return CONDITION_FAILED;
	} else if (c->if_unmodified_since &&
		   modified_after(v, c->if_unmodified_since, now, false)) {
		return CONDITION_FAILED;
	}
	if (c->if_none_match) {
		if (list_matches(c->if_none_match, v, false))
			return reading ? CONDITION_NOT_MODIFIED : CONDITION_FAILED;
	} else if (reading && c->if_modified_since &&
		   !modified_after(v, c->if_modified_since, now, true)) {
		return CONDITION_NOT_MODIFIED;
	}
	return CONDITION_PROCEED;
}

bool conditions_allow_range(const struct conditions *c, const struct validator *v, time_t now)
{
	const char *p = c->if_range;
	time_t when;
	size_t len;

	if (!p)
		return true;
	if (!v->present)
		return false;
	if (*p == '"' || is_weak(p)) {
		const char *tag = tag_at(&p, &len);

		return tag && !*p && tags_match(tag, len, v->etag, true);
	}
	/* A date is as good as a strong tag only when the file is at least a second older than
	 * now; a weak tag says that it may not be. */
	return !httpdate_parse(p, now, &when) && when == v->modified && v->modified < now &&
	       !is_weak(v->etag);
}
