/* SPDX-License-Identifier: MIT */
/* Numbers out of text: what is taken, what is refused and how, and that *ret is then untouched. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/parse.h"
#include "tests/unit/check.h"

#define UNTOUCHED 4711

static const struct row {
	const char *text;
	int result;
	uint64_t value;
} numbers[] =
	{
		{"0", 0, 0}, {"7", 0, 7}, {"007", 0, 7}, {"4096", 0, 4096},
		{"18446744073709551615", 0, UINT64_MAX}, {"018446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0}, {"18446744073709551620", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0}, {"", -EINVAL, 0}, {" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0}, {"1\n", -EINVAL, 0}, {"+1", -EINVAL, 0}, {"-1", -EINVAL, 0},
		{"0x10", -EINVAL, 0}, {"1e3", -EINVAL, 0}, {"1.0", -EINVAL, 0},
		{"1,000", -EINVAL, 0}, {"10k", -EINVAL, 0},
		{"\xd9\xa3", -EINVAL, 0},                 /* a digit, in Arabic */
		{"99999999999999999999999x", -EINVAL, 0}, /* form before value */
},
  seconds[] = {
	  {"0", 0, 0},
	  {"1", 0, 1000},
	  {"30", 0, 30000},
	  {"0.5", 0, 500},
	  {"0.25", 0, 250},
	  {"1.125", 0, 1125},
	  {"1.000", 0, 1000},
	  {"1.0000", 0, 1000},
	  {"0.001", 0, 1},
	  {"0.0001", 0, 1}, /* rounded up: never less than was asked for */
	  {"0.0010", 0, 1},
	  {"0.0011", 0, 2},
	  {"0.999", 0, 999},
	  {"0.9991", 0, 1000},
	  {"2.0000000000000000000000000000000000000001", 0, 2001},
	  {"2147483647", 0, 2147483647000},
	  {"2147483646.9991", 0, 2147483647000},
	  {"2147483647.0000", 0, 2147483647000},
	  {"2147483647.0001", -ERANGE, 0},
	  {"2147483648", -ERANGE, 0},
	  {"18446744073709550", -ERANGE, 0},
	  {"18446744073709551615", -ERANGE, 0},
	  {"18446744073709551616", -ERANGE, 0},
	  {"", -EINVAL, 0},
	  {".", -EINVAL, 0},
	  {".5", -EINVAL, 0},
	  {"5.", -EINVAL, 0},
	  {"1.5.5", -EINVAL, 0},
	  {"1,5", -EINVAL, 0},
	  {"-1", -EINVAL, 0},
	  {"+1", -EINVAL, 0},
	  {" 1", -EINVAL, 0},
	  {"1s", -EINVAL, 0},
	  {"1.5s", -EINVAL, 0},
	  {"1m", -EINVAL, 0},
	  {"inf", -EINVAL, 0},
	  {"nan", -EINVAL, 0},
	  {"1e3", -EINVAL, 0},
};

static void test_rows(
	const char *name, int (*parse)(const char *, uint64_t *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t value = UNTOUCHED;
		int r = parse(rows[i].text, &value);

		CHECK(r == rows[i].result, "%s(\"%s\") is %d, expected %d", name, rows[i].text, r,
			rows[i].result);
		CHECK(value == (rows[i].result ? UNTOUCHED : rows[i].value),
			"%s(\"%s\") stores %" PRIu64, name, rows[i].text, value);
	}
}

/* Against the C library, on text as likely to be a number as not. */
static void test_random(unsigned long long seed)
{
	static const char alphabet[] = "0123456789012345678901234567890123456789 +-.x";

	printf("seed %llu\n", seed);
	for (unsigned i = 0; i < 100000; i++) {
		char text[24] = "";
		size_t len = check_random(&seed) % 22;
		uint64_t value = UNTOUCHED;
		unsigned long long want;
		int r, expected = 0;

		for (size_t k = 0; k < len; k++)
			text[k] = alphabet[check_random(&seed) % (sizeof(alphabet) - 1)];
		errno = 0;
		want = strtoull(text, NULL, 10);
		if (!len || strspn(text, "0123456789") != len)
			expected = -EINVAL;
		else if (errno)
			expected = -errno;
		r = parse_u64(text, &value);
		CHECK(r == expected, "parse_u64(\"%s\") is %d, expected %d", text, r, expected);
		CHECK(value == (expected ? UNTOUCHED : want), "parse_u64(\"%s\") stores %" PRIu64,
			text, value);
	}
}

int main(void)
{
	test_rows("parse_u64", parse_u64, numbers, COUNT_OF(numbers));
	test_rows("parse_seconds_ms", parse_seconds_ms, seconds, COUNT_OF(seconds));
	test_random(20251121);
	return check_result();
}
