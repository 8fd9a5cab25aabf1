/* SPDX-License-Identifier: MIT */
#include "httpd/prefer.h"

#include <stddef.h>
#include <strings.h>

#define WAIT_MAX 86400

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* To the comma that ends this preference, past quoted strings. */
static const char *preference_end(const char *p)
{
	bool quoted = false;

	for (; *p && (quoted || *p != ','); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (quoted && *p == '\\' && p[1])
			p++;
	}
	return p;
}

static bool seconds(const char *p, const char *end, uint64_t *ret)
{
	bool quoted = *p == '"';
	uint64_t value = 0;
	const char *first = p += quoted;

	for (; p < end && *p >= '0' && *p <= '9'; p++)
		if (value <= WAIT_MAX)
			value = value * 10 + (unsigned)(*p - '0');
	if (p == first || (quoted && *p++ != '"'))
		return false;
	p = skip_space(p);
	if (p < end && *p != ';')
		return false;
	*ret = value > WAIT_MAX ? WAIT_MAX : value;
	return true;
}

bool prefer_wait(const char *value, uint64_t *ret_seconds)
{
	for (const char *p = value; *p;) {
		const char *end = preference_end(p);

		p = skip_space(p);
		if (!strncasecmp(p, "wait", 4)) {
			const char *q = skip_space(p + 4);

			if (*q == '=')
				return seconds(skip_space(q + 1), end, ret_seconds);
		}
		p = *end ? end + 1 : end;
	}
	return false;
}
