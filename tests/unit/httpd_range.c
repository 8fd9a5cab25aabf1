/* SPDX-License-Identifier: MIT */
#include "httpd/range.h"

#include "check.h"

static void test_parse(void)
{
	static const struct {
		const char *text;
		int count; /* -1: to be ignored */
		struct range_spec first;
	} row[] = {
		{"bytes=0-499", 1, {RANGE_FROM_TO, 0, 499}},
		{"bytes=500-", 1, {RANGE_FROM, 500, UINT64_MAX}},
		{"bytes=-500", 1, {RANGE_SUFFIX, 0, 500}},
		{"BYTES = 0-0", 1, {RANGE_FROM_TO, 0, 0}},
		{"bytes= 0-0 , -1", 2, {RANGE_FROM_TO, 0, 0}},
		{"bytes=,,0-0,,", 1, {RANGE_FROM_TO, 0, 0}},
		{"bytes=0-9007199254740991", 1, {RANGE_FROM_TO, 0, 9007199254740991}},
		{"bytes=0-18446744073709551615", 1, {RANGE_FROM_TO, 0, UINT64_MAX}},
		{"bytes=99999999999999999999-", 1, {RANGE_FROM, UINT64_MAX, UINT64_MAX}},
		{"bytes=1-0", -1, {0}},
		{"bytes=", -1, {0}},
		{"bytes=,", -1, {0}},
		{"bytes=-", -1, {0}},
		{"bytes=a-b", -1, {0}},
		{"bytes=0", -1, {0}},
		{"bytes=0-1x", -1, {0}},
		{"bytes=0-1 2-3", -1, {0}},
		{"bytes=0 - 1", -1, {0}},
		{"bytes=+0-1", -1, {0}},
		{"bytes=--1", -1, {0}},
		{"bytes 0-1", -1, {0}},
		{"lines=0-1", -1, {0}},
		{"", -1, {0}},
		{"bytes=0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,"
		 "0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0",
			-1, {0}},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct range_set set = {.count = 77};
		bool ok = range_parse(row[i].text, &set);

		CHECK(ok == (row[i].count >= 0), "%s", row[i].text);
		CHECK(ok || set.count == 77, "touched by %s", row[i].text);
		if (!ok)
			continue;
		CHECK((int)set.count == row[i].count, "%s", row[i].text);
		CHECK(set.spec[0].form == row[i].first.form &&
				set.spec[0].first == row[i].first.first &&
				set.spec[0].last == row[i].first.last,
			"%s", row[i].text);
	}
}

static void test_complete(void)
{
	static const struct {
		const char *text;
		uint64_t size;
		enum range_answer answer;
		size_t count;
		struct range first, last;
	} row[] = {
		{"bytes=0-4", 10, RANGE_PARTS, 1, {0, 4}, {0, 4}},
		{"bytes=0-99", 10, RANGE_PARTS, 1, {0, 9}, {0, 9}},
		{"bytes=9-", 10, RANGE_PARTS, 1, {9, 9}, {9, 9}},
		{"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, {0}, {0}},
		{"bytes=-3", 10, RANGE_PARTS, 1, {7, 9}, {7, 9}},
		{"bytes=-30", 10, RANGE_PARTS, 1, {0, 9}, {0, 9}},
		{"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, {0}, {0}},
		{"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, {0}, {0}},
		{"bytes=-1", 0, RANGE_WHOLE, 0, {0}, {0}},
		{"bytes=0-1,4-5", 10, RANGE_PARTS, 2, {0, 1}, {4, 5}},
		{"bytes=0-1,50-60,-1", 10, RANGE_PARTS, 2, {0, 1}, {9, 9}},
		{"bytes=50-60,-0", 10, RANGE_UNSATISFIABLE, 0, {0}, {0}},
		{"bytes=0-,0-,0-", 10, RANGE_WHOLE, 0, {0}, {0}},
		{"bytes=0-9007199254740991", 10, RANGE_PARTS, 1, {0, 9}, {0, 9}},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct range_set set;
		struct range_parts parts;
		enum range_answer answer;

		CHECK(range_parse(row[i].text, &set), "%s", row[i].text);
		answer = range_of_complete(&set, row[i].size, &parts);
		CHECK(answer == row[i].answer, "%s of %d: %d", row[i].text, (int)row[i].size,
			answer);
		if (answer != RANGE_PARTS)
			continue;
		CHECK(parts.count == row[i].count, "%s", row[i].text);
		CHECK(!memcmp(&parts.part[0], &row[i].first, sizeof(struct range)), "%s",
			row[i].text);
		CHECK(!memcmp(&parts.part[parts.count - 1], &row[i].last, sizeof(struct range)),
			"%s", row[i].text);
	}
}

/* The table of DESIGN section 6, a file with edge 100. */
static void test_growing(void)
{
	static const struct range_growing undeclared = {.edge = 100}, empty = {.edge = 0},
					  declared = {.edge = 100, .declared = true, .size = 200},
					  aborted = {.edge = 100, .aborted = true},
					  broken = {.edge = 100,
						  .declared = true,
						  .size = 200,
						  .aborted = true};
	static const struct {
		const char *text;
		const struct range_growing *file;
		enum range_plan plan;
		struct range range;
	} row[] = {
		{"bytes=10-99", &undeclared, PLAN_PART, {10, 99}},
		{"bytes=10-", &undeclared, PLAN_PART, {10, 99}},
		{"bytes=10-100", &undeclared, PLAN_HOLD, {10, 100}},
		{"bytes=150-160", &undeclared, PLAN_HOLD, {150, 160}},
		{"bytes=10-9007199254740991", &undeclared, PLAN_OPEN, {10, 9007199254740991}},
		{"bytes=10-1099511627876", &undeclared, PLAN_OPEN, {10, 1099511627876}},
		{"bytes=10-1099511627875", &undeclared, PLAN_HOLD, {10, 1099511627875}},
		{"bytes=100-9007199254740991", &undeclared, PLAN_HOLD, {100, 100}},
		{"bytes=100-", &undeclared, PLAN_HOLD, {100, 100}},
		{"bytes=5000-", &undeclared, PLAN_HOLD, {5000, 5000}},
		{"bytes=-10", &undeclared, PLAN_PART, {90, 99}},
		{"bytes=-1000", &undeclared, PLAN_PART, {0, 99}},
		{"bytes=-0", &undeclared, PLAN_UNSATISFIABLE, {0}},
		{"bytes=0-1,3-4", &undeclared, PLAN_WHOLE, {0}},
		{"bytes=0-", &empty, PLAN_HOLD, {0, 0}},
		{"bytes=-5", &empty, PLAN_HOLD, {0, 0}},
		{"bytes=10-99", &declared, PLAN_PART, {10, 99}},
		{"bytes=10-", &declared, PLAN_PART, {10, 199}},
		{"bytes=10-150", &declared, PLAN_PART, {10, 150}},
		{"bytes=10-9007199254740991", &declared, PLAN_PART, {10, 199}},
		{"bytes=200-", &declared, PLAN_UNSATISFIABLE, {0}},
		{"bytes=-10", &declared, PLAN_PART, {190, 199}},
		{"bytes=10-99", &aborted, PLAN_PART, {10, 99}},
		{"bytes=10-", &aborted, PLAN_CUT, {10, RANGE_OPEN_LAST}},
		{"bytes=10-100", &aborted, PLAN_CUT, {10, 100}},
		{"bytes=100-", &aborted, PLAN_FAILED, {0}},
		{"bytes=10-99", &broken, PLAN_PART, {10, 99}},
		{"bytes=10-", &broken, PLAN_CUT, {10, 199}},
		{"bytes=-10", &broken, PLAN_FAILED, {0}},
		{"bytes=200-", &broken, PLAN_UNSATISFIABLE, {0}},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct range_set set;
		struct range range = {0};
		enum range_plan plan;

		CHECK(range_parse(row[i].text, &set), "%s", row[i].text);
		plan = range_of_growing(&set, row[i].file, &range);
		CHECK(plan == row[i].plan, "row %zu %s: %d", i, row[i].text, plan);
		if (plan == PLAN_WHOLE || plan == PLAN_UNSATISFIABLE || plan == PLAN_FAILED)
			continue;
		CHECK(range.first == row[i].range.first && range.last == row[i].range.last,
			"row %zu %s: %llu-%llu", i, row[i].text, (unsigned long long)range.first,
			(unsigned long long)range.last);
	}
}

int main(void)
{
	test_parse();
	test_complete();
	test_growing();
	return check_result();
}
