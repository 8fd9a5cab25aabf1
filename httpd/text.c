/* SPDX-License-Identifier: MIT */
#include "httpd/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct text *t, size_t more)
{
	size_t size = t->size ? t->size : 256;
	char *data;

	if (t->failed)
		return false;
	while (size < t->len + more + 1)
		size *= 2;
	if (size == t->size)
		return true;
	data = realloc(t->data, size);
	if (!data) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->size = size;
	return true;
}

void text_put_bytes(struct text *t, const char *s, size_t len)
{
	if (!make_room(t, len))
		return;
	memcpy(t->data + t->len, s, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void text_put(struct text *t, const char *s)
{
	text_put_bytes(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !make_room(t, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(t->data + t->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->len += (size_t)n;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 when there is none. */
static size_t utf8_len(const unsigned char *s)
{
	static const struct {
		unsigned char first, last, low, high, more;
	} form[] = {{0x01, 0x7f, 0, 0, 0}, {0xc2, 0xdf, 0x80, 0xbf, 1}, {0xe0, 0xe0, 0xa0, 0xbf, 2},
		{0xe1, 0xec, 0x80, 0xbf, 2}, {0xed, 0xed, 0x80, 0x9f, 2},
		{0xee, 0xef, 0x80, 0xbf, 2}, {0xf0, 0xf0, 0x90, 0xbf, 3},
		{0xf1, 0xf3, 0x80, 0xbf, 3}, {0xf4, 0xf4, 0x80, 0x8f, 3}};

	for (size_t i = 0; i < sizeof(form) / sizeof(form[0]); i++) {
		if (s[0] < form[i].first || s[0] > form[i].last)
			continue;
		if (form[i].more && (s[1] < form[i].low || s[1] > form[i].high))
			return 0;
		for (size_t n = 2; n <= form[i].more; n++)
			if ((s[n] & 0xc0) != 0x80)
				return 0;
		return form[i].more + 1u;
	}
	return 0;
}

void text_json(struct text *t, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	text_put(t, "\"");
	while (*p) {
		size_t n = utf8_len(p);

		if (*p < 0x20 || *p == 0x7f || *p == '<')
			text_printf(t, "\\u%04x", *p);
		else if (*p == '"' || *p == '\\')
			text_printf(t, "\\%c", *p);
		else if (n)
			text_put_bytes(t, (const char *)p, n);
		else
			text_put(t, "\xef\xbf\xbd");
		p += n ? n : 1;
	}
	text_put(t, "\"");
}

void text_html(struct text *t, const char *s)
{
	for (; *s; s++) {
		size_t plain = strcspn(s, "&<>\"'");

		text_put_bytes(t, s, plain);
		s += plain;
		if (!*s)
			return;
		text_printf(t, "&#%d;", *s);
	}
}

void text_escape_log(struct text *t, const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\')
			text_printf(t, "\\x%02X", *p);
		else
			text_put_bytes(t, (const char *)p, 1);
	}
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}
