/* SPDX-License-Identifier: MIT */
#include "common/parse.h"

#include <errno.h>
#include <stdbool.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Consumes the digits at *text; -ERANGE leaves *text within them. */
static int digits(const char **text, uint64_t *value)
{
	*value = 0;
	for (; is_digit(**text); (*text)++) {
		unsigned d = (unsigned)(**text - '0');

		if (*value > (UINT64_MAX - d) / 10)
			return -ERANGE;
		*value = *value * 10 + d;
	}
	return 0;
}

int parse_u64(const char *text, uint64_t *ret)
{
	uint64_t value;
	int r;

	for (const char *p = text; *p; p++)
		if (!is_digit(*p))
			return -EINVAL;
	if (!*text)
		return -EINVAL;
	r = digits(&text, &value);
	if (r < 0)
		return r;
	*ret = value;
	return 0;
}

int parse_seconds_ms(const char *text, uint64_t *ret)
{
	uint64_t seconds, ms = 0;
	int r;

	if (!is_digit(*text))
		return -EINVAL;
	r = digits(&text, &seconds);
	if (r < 0)
		return r;
	if (*text == '.') {
		bool rest = false;

		if (!is_digit(*++text))
			return -EINVAL;
		for (unsigned scale = 100; is_digit(*text); text++, scale /= 10) {
			ms += scale * (unsigned)(*text - '0');
			rest |= scale == 0 && *text != '0';
		}
		ms += rest;
	}
	if (*text)
		return -EINVAL;
	if (seconds > PARSE_SECONDS_MOST || (seconds == PARSE_SECONDS_MOST && ms))
		return -ERANGE;
	*ret = seconds * 1000 + ms;
	return 0;
}
