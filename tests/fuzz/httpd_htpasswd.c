/* SPDX-License-Identifier: MIT */
/* Lines of a password file and of a table of media types. */
#include "httpd/htpasswd.h"
#include "httpd/mime.h"

#include "httpd_input.h"

static void seen(void *data, const char *type, const char *extension)
{
	REQUIRE(strchr(type, '/') && *extension);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size), *again = input_string(data, size);
	const char *user, *hash;

	if (htpasswd_parse_line(text, &user, &hash) == 1)
		REQUIRE(*user && *hash && !strchr(user, ':') && !strchr(hash, ':'));
	mime_parse_line(again, seen, NULL);
	free(text);
	free(again);
	return 0;
}
