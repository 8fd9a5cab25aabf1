/* SPDX-License-Identifier: MIT */
/*
 * The Range header (RFC 9110 section 14.1 and 14.2) and what it means for a file that is
 * complete, growing or aborted (DESIGN section 6, RFC 8673). Pure: no I/O, no allocation, any
 * thread. Positions are byte offsets, ranges are inclusive at both ends as in HTTP.
 */
#ifndef HTTPD_RANGE_H
#define HTTPD_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGE_MAX 32 /* a set with more members is not worth serving in parts */

/* From this last-pos on a client says "and whatever comes" (RFC 8673 section 3). */
#define RANGE_OPEN_LAST  ((UINT64_C(1) << 53) - 1)
#define RANGE_OPEN_AHEAD (UINT64_C(1) << 40)

enum range_form {
	RANGE_FROM_TO, /* first-last */
	RANGE_FROM,    /* first-     */
	RANGE_SUFFIX,  /* -count, kept in last */
};

struct range_spec {
	enum range_form form;
	uint64_t first, last; /* positions too large for 64 bits are UINT64_MAX */
};

struct range_set {
	size_t count;
	struct range_spec spec[RANGE_MAX];
};

struct range {
	uint64_t first, last;
};

/* True when value is a well-formed set of byte ranges of at most RANGE_MAX members. Everything
 * else, other units included, is to be ignored (RFC 9110 section 14.2). */
bool range_parse(const char *value, struct range_set *ret);

enum range_answer {
	RANGE_WHOLE,         /* answer as if no Range had been sent */
	RANGE_PARTS,         /* 206 with ret->count parts */
	RANGE_UNSATISFIABLE, /* 416 */
};

struct range_parts {
	size_t count;
	struct range part[RANGE_MAX];
};

/* For a complete file of size bytes. Sets that would send more than the file are RANGE_WHOLE. */
enum range_answer range_of_complete(
	const struct range_set *set, uint64_t size, struct range_parts *ret);

/* What is known of a file that is not complete. */
struct range_growing {
	uint64_t edge;
	bool declared, aborted;
	uint64_t size; /* when declared */
};

enum range_plan {
	PLAN_WHOLE,         /* 200, follow to the end */
	PLAN_PART,          /* 206 of exactly range; what is not there yet is followed */
	PLAN_OPEN,          /* 206 from range.first, follow to range.last or the end, no length */
	PLAN_HOLD,          /* nothing can be said before byte range.last exists: ask again then */
	PLAN_CUT,           /* 206 of range, then the connection is cut: the writer failed */
	PLAN_FAILED,        /* the writer failed before the first byte asked for */
	PLAN_UNSATISFIABLE, /* 416 */
};

/* For a growing or aborted file. Sets of more than one range are PLAN_WHOLE. */
enum range_plan range_of_growing(
	const struct range_set *set, const struct range_growing *file, struct range *ret);

#endif
