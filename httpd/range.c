/* SPDX-License-Identifier: MIT */
#include "httpd/range.h"

#include <strings.h>

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* 1*DIGIT, saturating: a position no file can have is still well formed. */
static bool position(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	*text = p;
	*ret = value;
	return true;
}

static bool spec_parse(const char **text, struct range_spec *ret)
{
	if (**text == '-') {
		++*text;
		ret->form = RANGE_SUFFIX;
		ret->first = 0;
		return position(text, &ret->last);
	}
	if (!position(text, &ret->first) || *(*text)++ != '-')
		return false;
	ret->form = RANGE_FROM;
	ret->last = UINT64_MAX;
	if (**text < '0' || **text > '9')
		return true;
	ret->form = RANGE_FROM_TO;
	return position(text, &ret->last) && ret->first <= ret->last;
}

bool range_parse(const char *value, struct range_set *ret)
{
	struct range_set set = {0};
	const char *p = value;

	if (strncasecmp(p, "bytes", 5))
		return false;
	p = skip_space(p + 5);
	if (*p++ != '=')
		return false;
	for (;;) {
		p = skip_space(p);
		if (*p == ',') { /* RFC 9110 section 5.6.1.2: empty members are ignored */
			p++;
			continue;
		}
		if (!*p)
			break;
		if (set.count == RANGE_MAX || !spec_parse(&p, &set.spec[set.count++]))
			return false;
		p = skip_space(p);
		if (*p && *p != ',')
			return false;
	}
	if (!set.count)
		return false;
	*ret = set;
	return true;
}

/* False when no byte of a file of size bytes is meant. */
static bool resolve(const struct range_spec *spec, uint64_t size, struct range *ret)
{
	if (!size || (spec->form == RANGE_SUFFIX && !spec->last))
		return false;
	if (spec->form == RANGE_SUFFIX) {
		ret->first = spec->last < size ? size - spec->last : 0;
		ret->last = size - 1;
		return true;
	}
	if (spec->first >= size)
		return false;
	ret->first = spec->first;
	ret->last = spec->form == RANGE_FROM_TO && spec->last < size ? spec->last : size - 1;
	return true;
}

enum range_answer range_of_complete(
	const struct range_set *set, uint64_t size, struct range_parts *ret)
{
	struct range_parts parts = {0};
	uint64_t total = 0;
	bool nothing = false; /* the last bytes of none: satisfied, but not to be told in a 206 */

	for (size_t i = 0; i < set->count; i++) {
		struct range *part = &parts.part[parts.count];

		nothing |= !size && set->spec[i].form == RANGE_SUFFIX && set->spec[i].last;
		if (!resolve(&set->spec[i], size, part))
			continue;
		total += part->last - part->first + 1;
		if (parts.count++ && total > size)
			return RANGE_WHOLE;
	}
	if (!parts.count)
		return nothing ? RANGE_WHOLE : RANGE_UNSATISFIABLE;
	*ret = parts;
	return RANGE_PARTS;
}

static enum range_plan declared_plan(
	const struct range_spec *spec, const struct range_growing *file, struct range *ret)
{
	if (!resolve(spec, file->size, ret))
		return PLAN_UNSATISFIABLE;
	if (!file->aborted || ret->last < file->edge)
		return PLAN_PART;
	return ret->first < file->edge ? PLAN_CUT : PLAN_FAILED;
}

/* What has no end is told as one that is still to come: who has got all that a Content-Range names
 * may not look at how the connection ends (wget). */
static enum range_plan aborted_plan(
	const struct range_spec *spec, const struct range_growing *file, struct range *ret)
{
	if (!resolve(spec, file->edge, ret))
		return PLAN_FAILED;
	if (spec->form == RANGE_FROM_TO && spec->last < file->edge)
		return PLAN_PART;
	ret->last = spec->form == RANGE_FROM_TO ? spec->last : RANGE_OPEN_LAST;
	return PLAN_CUT;
}

static bool last_is_open(const struct range_spec *spec, uint64_t edge)
{
	return spec->last >= RANGE_OPEN_LAST ||
	       (spec->last >= RANGE_OPEN_AHEAD && spec->last - RANGE_OPEN_AHEAD >= edge);
}

static enum range_plan undeclared_plan(
	const struct range_spec *spec, const struct range_growing *file, struct range *ret)
{
	if (spec->form == RANGE_SUFFIX && !spec->last)
		return PLAN_UNSATISFIABLE;
	ret->first = spec->first;
	if (spec->form == RANGE_FROM_TO) {
		bool open = last_is_open(spec, file->edge);

		if ((open ? spec->first : spec->last) >= file->edge) {
			ret->last = open ? spec->first : spec->last;
			return PLAN_HOLD;
		}
		ret->last = spec->last;
		return open ? PLAN_OPEN : PLAN_PART;
	}
	if (resolve(spec, file->edge, ret))
		return PLAN_PART;
	ret->last = ret->first; /* a suffix of nothing waits for the first byte */
	return PLAN_HOLD;
}

enum range_plan range_of_growing(
	const struct range_set *set, const struct range_growing *file, struct range *ret)
{
	if (set->count != 1)
		return PLAN_WHOLE;
	if (file->declared)
		return declared_plan(&set->spec[0], file, ret);
	if (file->aborted)
		return aborted_plan(&set->spec[0], file, ret);
	return undeclared_plan(&set->spec[0], file, ret);
}
