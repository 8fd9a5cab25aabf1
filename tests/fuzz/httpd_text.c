/* SPDX-License-Identifier: MIT */
/* Any name: what is written into JSON, HTML and a log line cannot leave its place there. */
#include "httpd/text.h"

#include "httpd_input.h"

static void json_is_closed(const char *s, size_t len)
{
	REQUIRE(len >= 2 && s[0] == '"' && s[len - 1] == '"');
	for (size_t i = 1; i < len - 1; i++) {
		REQUIRE((unsigned char)s[i] >= 0x20 && s[i] != '"' && s[i] != '<');
		if (s[i] == '\\')
			REQUIRE(strchr("\"\\u", s[++i]) && i < len - 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size);
	struct text json = {0}, html = {0}, log = {0};

	text_json(&json, text);
	text_html(&html, text);
	text_escape_log(&log, text);
	json_is_closed(json.data, json.len);
	REQUIRE(!html.data || !strpbrk(html.data, "<>\"'"));
	for (size_t i = 0; i < log.len; i++)
		REQUIRE(log.data[i] >= 0x20 && log.data[i] < 0x7f && log.data[i] != '"');
	text_free(&json);
	text_free(&html);
	text_free(&log);
	free(text);
	return 0;
}
