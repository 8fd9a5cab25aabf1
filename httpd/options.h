/* SPDX-License-Identifier: MIT */
/*
 * The command line of rww-httpd. One table (options.c) gives names, arguments, defaults and help;
 * tests compare it with the man page. Filled before the first thread, read-only afterwards.
 */
#ifndef HTTPD_OPTIONS_H
#define HTTPD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_LISTEN_MAX 8

enum options_format { FORMAT_COMBINED, FORMAT_JSON };

struct options {
	const char *root;
	const char *listen[OPTIONS_LISTEN_MAX]; /* ADDRESS:PORT */
	unsigned listen_count;
	const char *metrics; /* ADDRESS:PORT, or NULL */
	uint64_t threads;
	const char *cert, *key;
	const char *htpasswd, *tokens, *realm;
	bool public_reads;
	const char *cors;
	bool upload, dotfiles, no_listing;
	uint64_t upload_limit; /* bytes, 0 = none */
	const char *index, *mime_types;
	uint64_t max_connections, max_per_ip;
	uint64_t header_timeout_ms, idle_timeout_ms, hold_timeout_ms, drain_timeout_ms;
	const char *access_log;
	enum options_format log_format;
	const char *user, *group;
	bool syslog, verbose, quiet;
};

enum options_result { OPTIONS_RUN, OPTIONS_EXIT_OK, OPTIONS_EXIT_USAGE };

/* --help and --version are answered here (OPTIONS_EXIT_OK); what is wrong is logged. */
enum options_result options_parse(int argc, char **argv, struct options *ret);

#endif
