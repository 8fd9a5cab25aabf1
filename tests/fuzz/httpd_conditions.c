/* SPDX-License-Identifier: MIT */
/* Lines of input are the five conditional headers and Prefer. */
#include "httpd/httpdate.h"
#include "httpd/prefer.h"
#include "httpd/validator.h"

#include "httpd_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size), *p = text, buf[HTTPDATE_SIZE];
	struct validator files[] = {{true, 784111777, "\"a\""}, {true, 784111777, "W/\"a\""}, {0}};
	struct conditions c = {0};
	const char *prefer, *date;
	uint64_t seconds;
	time_t when;

	c.if_match = input_line(&p);
	c.if_none_match = input_line(&p);
	c.if_modified_since = input_line(&p);
	c.if_unmodified_since = input_line(&p);
	c.if_range = input_line(&p);
	prefer = input_line(&p);
	date = c.if_match;
	for (size_t i = 0; i < 3; i++) {
		(void)conditions_check(&c, &files[i], true, 784111999);
		(void)conditions_check(&c, &files[i], false, 784111999);
		REQUIRE(!c.if_range || files[i].present ||
			!conditions_allow_range(&c, &files[i], 784111999));
	}
	if (prefer && prefer_wait(prefer, &seconds))
		REQUIRE(seconds <= 86400);
	if (!httpdate_parse(date, 784111777, &when) && *httpdate_format(when, buf)) {
		time_t again;

		REQUIRE(!httpdate_parse(buf, 784111777, &again) && again == when);
	}
	free(text);
	return 0;
}
