/* SPDX-License-Identifier: MIT */
#include "httpd/text.h"

#include "check.h"

static void test_escapes(void)
{
	static const struct {
		const char *in, *json, *html, *log;
	} row[] = {
		{"plain", "\"plain\"", "plain", "plain"},
		{"", "\"\"", "", ""},
		{"a\"b\\c", "\"a\\\"b\\\\c\"", "a&#34;b\\c", "a\\x22b\\x5Cc"},
		{"<&'>", "\"\\u003c&'>\"", "&#60;&#38;&#39;&#62;", "<&'>"},
		{"\n\t\x7f", "\"\\u000a\\u0009\\u007f\"", "\n\t\x7f", "\\x0A\\x09\\x7F"},
		{"\xc3\xbc", "\"\xc3\xbc\"", "\xc3\xbc", "\\xC3\\xBC"},
		{"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80",
			"\\xF0\\x9F\\x98\\x80"},
		{"\xff", "\"\xef\xbf\xbd\"", "\xff", "\\xFF"},
		{"\xc3", "\"\xef\xbf\xbd\"", "\xc3", "\\xC3"},
		{"\xe4\xbd", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\xe4\xbd", "\\xE4\\xBD"},
		{"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\xc0\x80", "\\xC0\\x80"},
		{"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", "\xed\xa0\x80",
			"\\xED\\xA0\\x80"},
		{"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
			"\xf4\x90\x80\x80", "\\xF4\\x90\\x80\\x80"},
	};

	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct text json = {0}, html = {0}, log = {0};

		text_json(&json, row[i].in);
		text_html(&html, row[i].in);
		text_escape_log(&log, row[i].in);
		CHECK(!strcmp(json.data, row[i].json), "row %zu: %s", i, json.data);
		CHECK(!strcmp(html.data ? html.data : "", row[i].html), "row %zu: %s", i,
			html.data);
		CHECK(!strcmp(log.data ? log.data : "", row[i].log), "row %zu: %s", i, log.data);
		text_free(&json);
		text_free(&html);
		text_free(&log);
	}
}

static void test_growth(void)
{
	struct text t = {0};

	for (int i = 0; i < 10000; i++)
		text_printf(&t, "%04d,", i);
	CHECK(t.len == 50000 && !t.failed, "%zu", t.len);
	CHECK(!strncmp(t.data + 49990, "9998,9999,", 11), "%s", t.data + 49990);
	text_free(&t);
	CHECK(!t.data && !t.len, "freed");
}

int main(void)
{
	test_escapes();
	test_growth();
	return check_result();
}
