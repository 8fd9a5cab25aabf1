/* SPDX-License-Identifier: MIT */
#include "fs/ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ranges_done(struct ranges *rs)
{
	free(rs->r);
	*rs = (struct ranges){.changes = rs->changes + 1};
}

/* Index of the first range that ends after offset; n if none. */
static size_t first_after(const struct ranges *rs, uint64_t offset)
{
	size_t lo = 0, hi = rs->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rs->r[mid].end > offset)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

const struct range *ranges_next(const struct ranges *rs, uint64_t offset)
{
	size_t i = first_after(rs, offset);

	return i < rs->n ? &rs->r[i] : NULL;
}

uint64_t ranges_end_before(const struct ranges *rs, uint64_t offset)
{
	size_t i = first_after(rs, offset);

	return i ? rs->r[i - 1].end : 0;
}

/* Replaces count ranges at index at by these n_new. */
static int splice(struct ranges *rs, size_t at, size_t count, const struct range *new, size_t n_new)
{
	if (rs->n - count + n_new > rs->room) {
		size_t room = rs->room ? rs->room * 2 : 4;
		struct range *r = reallocarray(rs->r, room, sizeof(*r));

		if (!r)
			return -ENOMEM;
		rs->r = r;
		rs->room = room;
	}
	if (rs->n > at + count)
		memmove(&rs->r[at + n_new], &rs->r[at + count],
			(rs->n - at - count) * sizeof(*rs->r));
	for (size_t i = 0; i < n_new; i++)
		rs->r[at + i] = new[i];
	rs->n = rs->n - count + n_new;
	rs->changes++;
	return 0;
}

int ranges_add(struct ranges *rs, uint64_t start, uint64_t end)
{
	struct range merged = {start, end};
	size_t at, last;

	if (start >= end)
		return 0;
	at = first_after(rs, start ? start - 1 : 0); /* one that ends at start is merged too */
	for (last = at; last < rs->n && rs->r[last].start <= end; last++) {
		if (rs->r[last].start < merged.start)
			merged.start = rs->r[last].start;
		if (rs->r[last].end > merged.end)
			merged.end = rs->r[last].end;
	}
	return splice(rs, at, last - at, &merged, 1);
}

int ranges_remove(struct ranges *rs, uint64_t start, uint64_t end)
{
	struct range rest[2];
	size_t at = first_after(rs, start), last, n = 0;

	if (start >= end)
		return 0;
	for (last = at; last < rs->n && rs->r[last].start < end; last++)
		;
	if (last == at)
		return 0;
	if (rs->r[at].start < start)
		rest[n++] = (struct range){rs->r[at].start, start};
	if (rs->r[last - 1].end > end)
		rest[n++] = (struct range){end, rs->r[last - 1].end};
	return splice(rs, at, last - at, rest, n);
}
