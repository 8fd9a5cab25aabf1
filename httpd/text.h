/* SPDX-License-Identifier: MIT */
/*
 * Text that grows: pages, JSON, log lines, metrics. Not thread-safe. When memory runs out, what
 * is added later is dropped and failed is set; the owner looks once, at the end.
 */
#ifndef HTTPD_TEXT_H
#define HTTPD_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *data; /* NUL-terminated once something was added */
	size_t len, size;
	bool failed;
};

void text_put(struct text *t, const char *s);
void text_put_bytes(struct text *t, const char *s, size_t len);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* s as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void text_json(struct text *t, const char *s);
/* s for HTML text and quoted attributes. */
void text_html(struct text *t, const char *s);
/* s for a log line: quotes, backslashes, control and non-ASCII bytes as \xHH. */
void text_escape_log(struct text *t, const char *s);

void text_free(struct text *t);

#endif
