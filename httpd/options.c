/* SPDX-License-Identifier: MIT */
#include "httpd/options.h"

#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parse.h"
#include "common/refused.h"
#include "httpd/mime.h"

enum kind { FLAG, TEXT, COUNT, SECONDS, LISTEN, LOG_FORMAT, HELP, VERSION };

struct definition {
	const char *name;
	char letter;
	enum kind kind;
	size_t offset;
	const char *argument, *initial, *help;
};

#define AT(field) offsetof(struct options, field)

static const struct definition table[] = {
	{"listen", 'l', LISTEN, 0, "ADDRESS:PORT", "127.0.0.1:8080",
		"where to listen; repeatable, port 0 takes any"},
	{"threads", 't', COUNT, AT(threads), "N", NULL, "worker threads (default: one per CPU)"},
	{"index", 0, TEXT, AT(index), "NAME", "index.html",
		"file served for a directory that has it"},
	{"no-listing", 0, FLAG, AT(no_listing), NULL, NULL, "no directory pages"},
	{"dotfiles", 0, FLAG, AT(dotfiles), NULL, NULL, "serve names that begin with a dot"},
	{"mime-types", 0, TEXT, AT(mime_types), "FILE", MIME_TYPES, "table of media types"},
	{"cors", 0, TEXT, AT(cors), "ORIGIN", NULL, "origin whose scripts may read, or *"},
	{"upload", 0, FLAG, AT(upload), NULL, NULL, "accept PUT, DELETE and MKCOL"},
	{"upload-limit", 0, COUNT, AT(upload_limit), "BYTES", "0", "largest upload, 0 for any"},
	{"cert", 0, TEXT, AT(cert), "FILE", NULL, "TLS certificate chain (PEM)"},
	{"key", 0, TEXT, AT(key), "FILE", NULL, "TLS private key (PEM)"},
	{"htpasswd", 0, TEXT, AT(htpasswd), "FILE", NULL, "users for Basic authentication"},
	{"tokens", 0, TEXT, AT(tokens), "FILE", NULL, "bearer tokens, one to a line"},
	{"realm", 0, TEXT, AT(realm), "TEXT", "rww-httpd",
		"realm shown when asking for a password"},
	{"public-reads", 0, FLAG, AT(public_reads), NULL, NULL, "credentials only for changes"},
	{"max-connections", 0, COUNT, AT(max_connections), "N", "16384", "at a time, in total"},
	{"max-per-ip", 0, COUNT, AT(max_per_ip), "N", "0", "at a time from one address, 0 for any"},
	{"header-timeout", 0, SECONDS, AT(header_timeout_ms), "SECONDS", "10",
		"for a request's header to arrive, 0 for any"},
	{"idle-timeout", 0, SECONDS, AT(idle_timeout_ms), "SECONDS", "60",
		"without any byte moving, waiting for a file excepted, 0 for any"},
	{"hold-timeout", 0, SECONDS, AT(hold_timeout_ms), "SECONDS", "0",
		"longest wait for a growing file, 0 for any"},
	{"drain-timeout", 0, SECONDS, AT(drain_timeout_ms), "SECONDS", "10",
		"for running answers when told to stop"},
	{"access-log", 0, TEXT, AT(access_log), "FILE", NULL, "one line per request, - for stdout"},
	{"log-format", 0, LOG_FORMAT, 0, "combined|json", "combined", "of the access log"},
	{"metrics", 0, TEXT, AT(metrics), "ADDRESS:PORT", NULL,
		"serve /metrics and /healthz there"},
	{"user", 'u', TEXT, AT(user), "USER", NULL, "become USER once the sockets are open"},
	{"group", 'g', TEXT, AT(group), "GROUP", NULL, "become GROUP (default: that of USER)"},
	{"syslog", 0, FLAG, AT(syslog), NULL, NULL, "messages to syslog"},
	{"verbose", 'v', FLAG, AT(verbose), NULL, NULL, "more messages"},
	{"quiet", 'q', FLAG, AT(quiet), NULL, NULL, "only warnings and errors"},
	{"help", 'h', HELP, 0, NULL, NULL, "this text"},
	{"version", 'V', VERSION, 0, NULL, NULL, "the version"},
};

#define TABLE_SIZE      (sizeof(table) / sizeof(table[0]))
#define LONG_BASE       256
#define HEADER_MAX      480
#define CONNECTIONS_MAX 1000000

static void print_help(void)
{
	puts("usage: rww-httpd [OPTION...] DIR\n"
	     "Serves the files of DIR over HTTP; on an rwwfs mount also while they are written.\n");
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		const struct definition *d = &table[i];
		char left[64], letter[8] = "    ";

		if (d->letter)
			snprintf(letter, sizeof(letter), "-%c, ", d->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, d->name, d->argument ? "=" : "",
			d->argument ? d->argument : "");
		printf("  %-36s %s", left, d->help);
		if (d->initial)
			printf(" (default: %s)", d->initial);
		putchar('\n');
	}
}

static bool listen_add(struct options *o, const char *value)
{
	if (o->listen_count == OPTIONS_LISTEN_MAX) {
		log_error(
			"option '--listen=%s': at most %d are possible", value, OPTIONS_LISTEN_MAX);
		return false;
	}
	o->listen[o->listen_count++] = value;
	return true;
}

static bool number_is_valid(const struct definition *d, const char *value, uint64_t *ret)
{
	int r = d->kind == COUNT ? parse_u64(value, ret) : parse_seconds_ms(value, ret);

	if (r < 0)
		log_error("option '--%s=%s': expected %s", d->name, value,
			d->kind == COUNT ? "a whole number"
					 : "seconds, as in 10 or 0.5, up to 2147483647");
	return r >= 0;
}

static bool log_format_set(struct options *o, const char *value)
{
	if (strcmp(value, "combined") && strcmp(value, "json")) {
		log_error("option '--log-format=%s': expected combined or json", value);
		return false;
	}
	o->log_format = strcmp(value, "json") ? FORMAT_COMBINED : FORMAT_JSON;
	return true;
}

static bool set(struct options *o, const struct definition *d, const char *value)
{
	void *field = (char *)o + d->offset;

	switch (d->kind) {
	case FLAG:
		*(bool *)field = true;
		return true;
	case TEXT:
		*(const char **)field = value;
		return true;
	case COUNT:
	case SECONDS:
		return number_is_valid(d, value, field);
	case LISTEN:
		return listen_add(o, value);
	case LOG_FORMAT:
		return log_format_set(o, value);
	case HELP:
	case VERSION:
		break;
	}
	return true;
}

static void set_initial(struct options *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	memset(o, 0, sizeof(*o));
	for (size_t i = 0; i < TABLE_SIZE; i++)
		if (table[i].initial && table[i].kind != LISTEN)
			(void)set(o, &table[i],
				table[i].initial); /* the table's own values are valid */
	o->threads = cpus > 1 ? (uint64_t)cpus : 1;
}

/* For getopt_long(): the value of each option is its place in the table. */
static void fill_getopt(struct option *longs, char *shorts)
{
	char *s = shorts;

	*s++ = ':';
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		longs[i] = (struct option){.name = table[i].name,
			.has_arg = table[i].argument ? required_argument : no_argument,
			.val = LONG_BASE + (int)i};
		if (!table[i].letter)
			continue;
		*s++ = table[i].letter;
		if (table[i].argument)
			*s++ = ':';
	}
	*s = '\0';
	longs[TABLE_SIZE] = (struct option){0};
}

static const struct definition *find(int c)
{
	if (c >= LONG_BASE)
		return &table[c - LONG_BASE];
	for (size_t i = 0; i < TABLE_SIZE; i++)
		if (table[i].letter && table[i].letter == c)
			return &table[i];
	return NULL;
}

static bool has_control(const char *text)
{
	while (*text && (unsigned char)*text >= ' ' && *text != 0x7f)
		text++;
	return *text;
}

/* As a browser sends it, which compares the answer byte by byte (Fetch standard): without a path,
 * be it only a slash. */
static bool is_origin(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789+-._[]:";
	const char *host = strstr(text, "://");

	if (!strcmp(text, "*") || !strcmp(text, "null"))
		return true;
	return host && host != text && host[3] && !host[3 + strspn(host + 3, allowed)] &&
	       strspn(text, allowed) == (size_t)(host - text) + 1;
}

/* What goes into a header; see reply_headerf(), and what a request has to leave room for. */
static bool header_is_valid(const char *option, const char *value)
{
	if (strlen(value) <= HEADER_MAX)
		return true;
	log_error("option '--%s=%.64s...': expected at most %d bytes, got %zu", option, value,
		HEADER_MAX, strlen(value));
	return false;
}

static bool is_within(const char *option, uint64_t value, uint64_t least, uint64_t most)
{
	if (value >= least && value <= most)
		return true;
	log_error("option '--%s=%" PRIu64 "': expected %" PRIu64 " to %" PRIu64, option, value,
		least, most);
	return false;
}

static bool texts_are_valid(const struct options *o)
{
	if (!header_is_valid("realm", o->realm) || (o->cors && !header_is_valid("cors", o->cors)))
		return false;
	if (!*o->realm || strpbrk(o->realm, "\"\\") || has_control(o->realm))
		log_error("option '--realm=%s': expected text without quotes or line breaks",
			o->realm);
	else if (o->cors && !is_origin(o->cors))
		log_error("option '--cors=%s': expected *, or an origin as browsers send it, as in "
			  "https://example.org",
			o->cors);
	else if (strchr(o->index, '/') || !strcmp(o->index, ".") || !strcmp(o->index, ".."))
		log_error("option '--index=%s': expected the name of a file", o->index);
	else
		return true;
	return false;
}

/* Pages in a browser on this machine reach a loopback address, too. */
static bool strangers_may_write(const struct options *o)
{
	return o->upload && o->cors && !strcmp(o->cors, "*") && !o->htpasswd && !o->tokens;
}

static bool check(const struct options *o)
{
	if (!o->cert != !o->key)
		log_error("option '--%s': needs --%s too", o->cert ? "cert" : "key",
			o->cert ? "key" : "cert");
	else if (o->public_reads && !o->htpasswd && !o->tokens)
		log_error("option '--public-reads': needs --htpasswd or --tokens too");
	else if (strangers_may_write(o))
		log_error("option '--cors=*': needs --htpasswd or --tokens too beside --upload, or "
			  "any web page could make changes");
	else if (o->verbose && o->quiet)
		log_error("option '--quiet': expected without --verbose");
	else
		return is_within("threads", o->threads, 1, 1024) &&
		       is_within("max-connections", o->max_connections, 1, CONNECTIONS_MAX) &&
		       is_within("max-per-ip", o->max_per_ip, 0, CONNECTIONS_MAX) &&
		       texts_are_valid(o);
	return false;
}

static enum options_result finish(struct options *o, int argc, char **argv)
{
	if (optind + 1 != argc) {
		log_error(optind == argc ? "expected the directory to serve; see --help"
					 : "expected one directory, got more; see --help");
		return OPTIONS_EXIT_USAGE;
	}
	o->root = argv[optind];
	if (!o->listen_count)
		o->listen[o->listen_count++] = table[0].initial;
	return check(o) ? OPTIONS_RUN : OPTIONS_EXIT_USAGE;
}

enum options_result options_parse(int argc, char **argv, struct options *ret)
{
	struct option longs[TABLE_SIZE + 1];
	char shorts[TABLE_SIZE * 2 + 2], letter[REFUSED_SIZE];
	int c;

	fill_getopt(longs, shorts);
	set_initial(ret);
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct definition *d = find(c);

		if (!d) {
			if (c == ':')
				log_error("option '%s': expected a value; see --help",
					argv[optind - 1]);
			else
				log_error("option '%s' is not known; see --help",
					refused_option(argv, shorts, letter));
			return OPTIONS_EXIT_USAGE;
		}
		if (d->kind == HELP)
			print_help();
		if (d->kind == VERSION)
			puts("rww-httpd " RWWFS_VERSION);
		if (d->kind == HELP || d->kind == VERSION)
			return OPTIONS_EXIT_OK;
		if (!set(ret, d, optarg))
			return OPTIONS_EXIT_USAGE;
	}
	return finish(ret, argc, argv);
}
