/* SPDX-License-Identifier: MIT */
/*
 * Ranges against a bitmap: the same random additions and removals to both, then they must agree,
 * and the list must be in its one normal form. Another seed: ranges_test SEED.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/ranges.h"
#include "tests/unit/check.h"

#define BITS 200

/* realloc of the code under test, which fails on demand (linked with --wrap). */
static bool memory_is_short;
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	if (memory_is_short) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_reallocarray(p, n, size);
}

/* Sorted, none empty, none touching the next. */
static void check_form(const struct ranges *rs, const char *when)
{
	CHECK(rs->n <= rs->room, "%s: %zu ranges in room for %zu", when, rs->n, rs->room);
	for (size_t i = 0; i < rs->n; i++) {
		CHECK(rs->r[i].start < rs->r[i].end, "%s: range %zu is empty", when, i);
		CHECK(i == 0 || rs->r[i - 1].end < rs->r[i].start, "%s: ranges %zu and %zu touch",
			when, i - 1, i);
	}
}

static void check_bits(const struct ranges *rs, const bool *bits, const char *when)
{
	bool got[BITS] = {false};

	for (size_t i = 0; i < rs->n; i++)
		for (uint64_t b = rs->r[i].start; b < rs->r[i].end && b < BITS; b++)
			got[b] = true;
	CHECK(!memcmp(got, bits, sizeof(got)), "%s", when);
}

/* The run of set bits that ends first behind offset. */
static bool next_in_bits(const bool *bits, unsigned offset, struct range *ret)
{
	unsigned start = offset, end;

	while (start < BITS && !bits[start])
		start++;
	if (start == BITS)
		return false;
	for (end = start; end < BITS && bits[end]; end++)
		;
	while (start > 0 && bits[start - 1])
		start--;
	*ret = (struct range){start, end};
	return true;
}

static void check_next(const struct ranges *rs, const bool *bits, const char *when)
{
	for (unsigned offset = 0; offset <= BITS; offset++) {
		const struct range *r = ranges_next(rs, offset);
		struct range want;
		bool some = next_in_bits(bits, offset, &want);

		CHECK(some == (r != NULL), "%s: ranges_next(%u)", when, offset);
		if (some && r)
			CHECK(r->start == want.start && r->end == want.end,
				"%s: ranges_next(%u) is [%llu, %llu), expected [%llu, %llu)", when,
				offset, (unsigned long long)r->start, (unsigned long long)r->end,
				(unsigned long long)want.start, (unsigned long long)want.end);
	}
}

static void random_steps(unsigned long long *seed, unsigned steps, unsigned longest)
{
	struct ranges rs = {0};
	bool bits[BITS] = {false};

	for (unsigned step = 0; step < steps; step++) {
		unsigned start = (unsigned)(check_random(seed) % BITS);
		unsigned end = start + (unsigned)(check_random(seed) % (longest + 1));
		bool add = check_random(seed) % 2;
		char when[64];
		int r;

		if (end > BITS)
			end = BITS;
		snprintf(when, sizeof(when), "step %u: %s [%u, %u)", step, add ? "add" : "remove",
			start, end);
		r = add ? ranges_add(&rs, start, end) : ranges_remove(&rs, start, end);
		for (unsigned b = start; b < end; b++)
			bits[b] = add;
		CHECK(r == 0, "%s: %d", when, r);
		check_form(&rs, when);
		check_bits(&rs, bits, when);
		if (step % 16 == 0)
			check_next(&rs, bits, when);
	}
	ranges_done(&rs);
	CHECK(rs.n == 0 && !rs.r, "not empty after ranges_done()");
}

static void test_edges(void)
{
	struct ranges rs = {0};

	CHECK(!ranges_next(&rs, 0), "an empty list has no next");
	CHECK(ranges_add(&rs, 7, 7) == 0 && rs.n == 0, "an empty range is nothing");
	CHECK(ranges_add(&rs, 9, 3) == 0 && rs.n == 0, "nor is one backwards");
	CHECK(ranges_remove(&rs, 0, UINT64_MAX) == 0 && rs.n == 0, "nothing to remove");

	CHECK(ranges_add(&rs, 0, 1) == 0 && ranges_add(&rs, UINT64_MAX - 1, UINT64_MAX) == 0,
		"both ends of the world");
	CHECK(rs.n == 2 && ranges_next(&rs, 1) == &rs.r[1], "two, and the second is next");
	CHECK(!ranges_next(&rs, UINT64_MAX), "nothing ends after the last offset");
	CHECK(ranges_add(&rs, 1, UINT64_MAX - 1) == 0 && rs.n == 1 && rs.r[0].start == 0 &&
			rs.r[0].end == UINT64_MAX,
		"what touches both becomes one");
	CHECK(ranges_remove(&rs, 100, UINT64_MAX) == 0 && rs.n == 1 && rs.r[0].end == 100,
		"a truncation");
	CHECK(ranges_remove(&rs, 10, 20) == 0 && rs.n == 2 && rs.r[0].end == 10 &&
			rs.r[1].start == 20,
		"a piece out of the middle");
	ranges_done(&rs);
}

/* -ENOMEM leaves the list as it was, at every size at which it has to grow. */
static void test_short_memory(void)
{
	struct ranges rs = {0};
	unsigned refused = 0;

	for (uint64_t i = 0; i < 100; i++) {
		bool full = rs.n == rs.room;
		int r;

		memory_is_short = true;
		r = ranges_add(&rs, i * 10, i * 10 + 5);
		memory_is_short = false;
		CHECK(r == (full ? -ENOMEM : 0), "add %d with %zu of %zu", r, rs.n, rs.room);
		if (r == 0)
			continue;
		refused++;
		CHECK(rs.n == i, "%zu ranges after a refusal, expected %u", rs.n, (unsigned)i);
		check_form(&rs, "after a refusal");
		CHECK(ranges_add(&rs, i * 10, i * 10 + 5) == 0, "with memory again");
	}
	CHECK(refused > 3, "only %u refusals", refused);
	while (rs.n < rs.room) /* fill it up, so that a split has no room */
		CHECK(ranges_add(&rs, 5000 + rs.n * 10, 5005 + rs.n * 10) == 0, "fill");
	memory_is_short = true;
	CHECK(ranges_remove(&rs, 1, 2) == -ENOMEM, "a split needs room");
	CHECK(rs.r[0].start == 0 && rs.r[0].end == 5, "and is not half done");
	CHECK(ranges_remove(&rs, 0, 5) == 0 && rs.r[0].start == 10,
		"removing whole ones needs none");
	memory_is_short = false;
	ranges_done(&rs);
}

int main(int argc, char **argv)
{
	unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20251121;

	printf("seed %llu\n", seed);
	if (!seed)
		return 2; /* the generator needs one that is not 0 */
	test_edges();
	test_short_memory();
	random_steps(&seed, 20000, 6);   /* many small ranges */
	random_steps(&seed, 20000, 60);  /* some */
	random_steps(&seed, 5000, BITS); /* few */
	return check_result();
}
