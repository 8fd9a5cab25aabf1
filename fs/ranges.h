/* SPDX-License-Identifier: MIT */
/*
 * A sorted list of disjoint byte ranges [start, end): the parts of a growing file that it has but
 * nobody is known to have written. Usually empty. The caller locks. -ENOMEM leaves it unchanged.
 */
#ifndef FS_RANGES_H
#define FS_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end;
};

struct ranges {
	struct range *r;
	size_t n, room;
	uint64_t changes; /* how often it became another list */
};

void ranges_done(struct ranges *rs);
int ranges_add(struct ranges *rs, uint64_t start, uint64_t end);
int ranges_remove(struct ranges *rs, uint64_t start, uint64_t end);
/* The first range that ends after offset; NULL if none. */
const struct range *ranges_next(const struct ranges *rs, uint64_t offset);
/* Where the last range that ends at or before offset does; 0 if none. */
uint64_t ranges_end_before(const struct ranges *rs, uint64_t offset);

#endif
