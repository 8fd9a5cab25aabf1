/* SPDX-License-Identifier: MIT */
/* Any request target: the path stays below the root and survives a round trip as a URL. */
#include "httpd/path.h"

#include "httpd_input.h"

static void round_trip(const struct path *path)
{
	char url[PATH_MAX * 3 + 2];
	struct path again;

	url[0] = '/';
	REQUIRE(path_encode(path->name, url + 1, sizeof(url) - 1));
	REQUIRE(!strpbrk(url, "<>\"'& \r\n"));
	REQUIRE(!path_parse(url, &again));
	REQUIRE(!strcmp(again.name, path->name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size);
	struct path path;

	if (!path_parse(text, &path)) {
		char padded[PATH_MAX + 3];

		REQUIRE(path.len == strlen(path.name) && path.len < PATH_MAX);
		padded[0] = '/';
		memcpy(padded + 1, path.name, path.len);
		memcpy(padded + 1 + path.len, "/", 2);
		if (path.len)
			REQUIRE(!strstr(padded, "//") && !strstr(padded, "/./") &&
				!strstr(padded, "/../"));
		REQUIRE(path.hidden == (strstr(padded, "/.") != NULL));
		round_trip(&path);
	}
	free(text);
	return 0;
}
