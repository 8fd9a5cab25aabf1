/* SPDX-License-Identifier: MIT */
/* Lines of input are the arguments of a command line: what is accepted is sound. */
#include <stdio.h>

#include "common/log.h"
#include "httpd/options.h"
#include "httpd_input.h"

#define ARGUMENTS 16

static void be_quiet(void)
{
	static FILE *quiet;

	if (!quiet)
		quiet = freopen("/dev/null", "w", stdout);
	REQUIRE(quiet);
	log_init("fuzz", (enum log_level) - 1);
}

static void check(const struct options *o)
{
	REQUIRE(o->root && o->realm && o->index && o->mime_types);
	REQUIRE(o->listen_count >= 1 && o->listen_count <= OPTIONS_LISTEN_MAX);
	for (unsigned i = 0; i < o->listen_count; i++)
		REQUIRE(o->listen[i]);
	REQUIRE(o->threads >= 1 && o->threads <= 1024);
	REQUIRE(o->max_connections >= 1 && o->max_connections <= 1000000);
	REQUIRE(!o->cert == !o->key);
	REQUIRE(!strchr(o->index, '/') && !strchr(o->realm, '"'));
	REQUIRE(o->log_format == FORMAT_COMBINED || o->log_format == FORMAT_JSON);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_string(data, size), *p = text, *line;
	char program[] = "rww-httpd", *argv[ARGUMENTS + 1] = {program};
	struct options o;
	int argc = 1;

	be_quiet();
	while (argc < ARGUMENTS && (line = input_line(&p)))
		argv[argc++] = line;
	if (options_parse(argc, argv, &o) == OPTIONS_RUN)
		check(&o);
	free(text);
	return 0;
}
