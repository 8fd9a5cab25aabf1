/* SPDX-License-Identifier: MIT */
#include "fs/options.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/refused.h"

enum kind { CHOICE, SECONDS, BYTES, PATH };

struct option_row {
	const char *name;
	enum kind kind;
	size_t field;           /* int; uint64_t, milliseconds; uint64_t; char * */
	const char *choices[4]; /* CHOICE: in the order of the enum */
	const char *help;
};

#define FIELD(f) offsetof(struct options, f)

/* The man page lists the same names; a test compares. */
static const struct option_row rows[] = {
	{"passthrough", CHOICE, FIELD(passthrough), {"auto", "on", "off"},
		"let the kernel move the data of writers and plain readers"},
	{"hold", CHOICE, FIELD(hold), {"read", "open", "none"}, "what waits while a file grows"},
	{"nonblock", CHOICE, FIELD(nonblock), {"plain", "hold"},
		"what an open with O_NONBLOCK of a growing file gets"},
	{"abort_on", CHOICE, FIELD(abort_on), {"signal", "failure", "never"},
		"which end of the last writer's process makes a file aborted"},
	{"aborted", CHOICE, FIELD(aborted), {"readable", "deny"},
		"whether aborted files can be opened for reading"},
	{"sync", CHOICE, FIELD(sync), {"none", "complete"},
		"what has reached the disk before a file counts as complete"},
	{"linger", SECONDS, FIELD(linger_ms), {NULL},
		"how long a file stays growing after its last close (default 0)"},
	{"hold_timeout", SECONDS, FIELD(hold_timeout_ms), {NULL},
		"fail a read held that long with ETIMEDOUT (0: never)"},
	{"attr_timeout", SECONDS, FIELD(attr_timeout_ms), {NULL},
		"how long the kernel may trust attributes (default 1)"},
	{"entry_timeout", SECONDS, FIELD(entry_timeout_ms), {NULL},
		"how long the kernel may trust names (default 1)"},
	{"max_read", BYTES, FIELD(max_read), {NULL},
		"the largest read request, 8192 to 1048576 bytes (the default)"},
	{"pidfile", PATH, FIELD(pidfile), {NULL},
		"write the daemon's process id here once the mount answers"},
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* Options of mount(8) that mean nothing to a mounted filesystem. */
static const char *const ignored[] = {"defaults", "auto", "noauto", "user", "nouser", "users",
	"nousers", "owner", "group", "_netdev", "nofail", "atime", "relatime", "norelatime",
	"strictatime", "diratime", "lazytime", "nolazytime", "silent", "loud", "iversion",
	"noiversion", "mand", "nomand", "default_permissions", NULL};

/* What libfuse and the kernel take; a name ending in '=' has a value. */
static const char *const passed[] = {"allow_other", "allow_root", "ro", "rw", "suid", "nosuid",
	"dev", "nodev", "exec", "noexec", "noatime", "nodiratime", "nostrictatime", "sync", "async",
	"dirsync",
	"fsname=", "subtype=", "context=", "fscontext=", "defcontext=", "rootcontext=", NULL};

static void *field_of(struct options *o, const struct option_row *row)
{
	return (char *)o + row->field;
}

static void say_expected(const struct option_row *row, const char *value)
{
	char choices[64] = "";

	if (row->kind == SECONDS) {
		log_error("option %s=%s: expected seconds, such as 30 or 0.5, up to %d", row->name,
			value, PARSE_SECONDS_MOST);
		return;
	}
	if (row->kind == BYTES) {
		log_error("option %s=%s: expected bytes, %d to %d", row->name, value,
			OPT_MAX_READ_LEAST, OPT_MAX_READ_MOST);
		return;
	}
	if (row->kind == PATH) {
		log_error("option %s=%s: expected a file name", row->name, value);
		return;
	}
	for (size_t i = 0; row->choices[i]; i++) {
		size_t len = strlen(choices);

		snprintf(choices + len, sizeof(choices) - len, "%s%s", i ? ", " : "",
			row->choices[i]);
	}
	log_error("option %s=%s: expected one of %s", row->name, value, choices);
}

/* As seen from here: the daemon leaves the working directory. */
static int set_path(const char *value, char **ret)
{
	autofree char *here = *value == '/' ? NULL : getcwd(NULL, 0);
	char *path = NULL;

	if (here ? asprintf(&path, "%s/%s", here, value) < 0 : !(path = strdup(value)))
		return -ENOMEM;
	free(*ret);
	*ret = path;
	return 0;
}

static int set_bytes(const char *value, uint64_t *ret)
{
	uint64_t n;

	if (parse_u64(value, &n) < 0 || n < OPT_MAX_READ_LEAST || n > OPT_MAX_READ_MOST)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int set_value(struct options *o, const struct option_row *row, const char *value)
{
	switch (row->kind) {
	case CHOICE:
		for (int i = 0; row->choices[i]; i++)
			if (!strcmp(value, row->choices[i])) {
				*(int *)field_of(o, row) = i;
				return 0;
			}
		break;
	case SECONDS:
		if (parse_seconds_ms(value, field_of(o, row)) == 0)
			return 0;
		break;
	case BYTES:
		if (set_bytes(value, field_of(o, row)) == 0)
			return 0;
		break;
	case PATH:
		if (*value)
			return set_path(value, field_of(o, row));
		break;
	}
	say_expected(row, value);
	return -EINVAL;
}

static bool is_listed(const char *const *list, const char *word)
{
	size_t len = strcspn(word, "=") + (strchr(word, '=') ? 1 : 0);

	for (; *list; list++)
		if (strlen(*list) == len && !strncmp(*list, word, len))
			return true;
	return false;
}

/* "fsname", or "fsname=" */
static bool lacks_value(const char *word)
{
	autofree char *with = NULL;
	const char *value = strchr(word, '=');

	if (value)
		return !value[1] && is_listed(passed, word);
	return asprintf(&with, "%s=", word) >= 0 && is_listed(passed, with);
}

static int pass_on(struct options *o, const char *word)
{
	char *joined = NULL;

	if (asprintf(&joined, "%s%s%s", o->mount_options ? o->mount_options : "",
		    o->mount_options ? "," : "", word) < 0)
		return -ENOMEM;
	free(o->mount_options);
	o->mount_options = joined;
	return 0;
}

/* By its type in /proc/mounts a mount is told from others (mounts.c). */
static int check_subtype(const char *value)
{
	if (!strcmp(value, "rwwfs"))
		return 0;
	log_error("option subtype=%s: expected rwwfs, by which a mount is known", value);
	return -EINVAL;
}

static int one_option(struct options *o, const char *word)
{
	size_t len = strcspn(word, "=");
	autofree char *name = NULL;

	for (size_t i = 0; i < N_ROWS; i++) {
		if (strlen(rows[i].name) != len || strncmp(rows[i].name, word, len))
			continue;
		if (word[len] == '=')
			return set_value(o, &rows[i], word + len + 1);
		if (is_listed(passed, word)) /* "sync" is one of mount(8)'s as well */
			break;
		say_expected(&rows[i], "");
		return -EINVAL;
	}
	if (!strcmp(word, "debug")) {
		o->debug = o->foreground = true;
		return 0;
	}
	if (!strcmp(word, "auto_unmount")) {
		o->auto_unmount = true;
		return 0;
	}
	if (is_listed(ignored, word) || !strncmp(word, "x-", 2) || !strncmp(word, "comment=", 8))
		return 0;
	if (!strncmp(word, "subtype=", 8))
		return check_subtype(word + 8);
	if (is_listed(passed, word) && !lacks_value(word))
		return pass_on(o, word);
	if (o->sloppy)
		return 0;
	if (lacks_value(word) && (name = strndup(word, len)))
		log_error("option %s=: expected a value", name);
	else
		log_error("unknown option \"%s\": see rwwfs --help", word);
	return -EINVAL;
}

static int option_list(struct options *o, const char *list)
{
	autofree char *copy = strdup(list);
	char *rest = copy, *word;

	if (!copy)
		return -ENOMEM;
	while ((word = strsep(&rest, ","))) {
		int r = *word ? one_option(o, word) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* The daemon leaves the working directory, and the kernel shows these in /proc/mounts. */
static int absolute(const char *what, const char *path, char **ret)
{
	*ret = realpath(path, NULL);
	if (*ret)
		return 0;
	log_error("%s %s: %s", what, path, strerror(errno));
	return -EINVAL;
}

static int positional(struct options *o, int n, char **args)
{
	int r;

	if (n < 1 || n > 2) {
		log_error("expected STORE MOUNTPOINT, or one directory: see rwwfs --help");
		return -EINVAL;
	}
	r = absolute("store", args[0], &o->store);
	if (r < 0)
		return r;
	return absolute("mountpoint", args[n - 1], &o->mountpoint);
}

/* Whether mount(8) calls us, by its rules for mount.TYPE: -f and -s have other meanings there. */
static bool is_mount_helper(const char *program)
{
	const char *slash = strrchr(program, '/');

	return !strncmp(slash ? slash + 1 : program, "mount.", 6);
}

int options_parse(struct options *o, int argc, char **argv)
{
	enum { FOREGROUND = 256 }; /* not -f, which is another one for mount(8) */
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"foreground", no_argument, NULL, FOREGROUND},
		{"debug", no_argument, NULL, 'd'},
		{NULL, 0, NULL, 0},
	};
	/* mount(8) adds -s and -f, before -o, and -n, -r, -v, -w, -N NS and -t TYPE. */
	static const char letters[] = ":fdshVo:nrvwt:N:";
	char letter[REFUSED_SIZE];
	bool helper = argc > 0 && is_mount_helper(argv[0]);
	int c, r = 0;

	*o = (struct options){
		.attr_timeout_ms = 1000, .entry_timeout_ms = 1000, .max_read = OPT_MAX_READ_MOST};
	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, letters, longs, NULL)) != -1)
		switch (c) {
		case 'f':
			*(helper ? &o->fake : &o->foreground) = true;
			break;
		case FOREGROUND:
			o->foreground = true;
			break;
		case 'd':
			o->debug = o->foreground = true;
			break;
		case 's':
			*(helper ? &o->sloppy : &o->single) = true;
			break;
		case 'h':
			o->help = true;
			return 0;
		case 'V':
			o->version = true;
			return 0;
		case 'o':
			r = option_list(o, optarg);
			break;
		case 'r':
			r = pass_on(o, "ro");
			break;
		case 'w':
			r = pass_on(o, "rw");
			break;
		case 'n':
		case 'v':
		case 't':
		case 'N':
			break;
		case ':':
			log_error("option -%c: expected a value", optopt);
			return -EINVAL;
		default:
			log_error("unknown option \"%s\": see rwwfs --help",
				refused_option(argv, letters, letter));
			return -EINVAL;
		}
	return r < 0 ? r : positional(o, argc - optind, argv + optind);
}

void options_done(struct options *o)
{
	free(o->store);
	free(o->mountpoint);
	free(o->mount_options);
	free(o->pidfile);
	*o = (struct options){0};
}

void options_help(FILE *to)
{
	fputs("usage: rwwfs [-f] [-d] [-s] [-o OPTION[,OPTION...]] STORE MOUNTPOINT\n"
	      "       rwwfs [...] DIR                (mount DIR over itself)\n\n"
	      "Reads of a file that is being written wait for more, or for its end.\n\n"
	      "  -f, --foreground   stay in the foreground\n"
	      "  -d, --debug        log every request; implies -f\n"
	      "  -s                 serve requests with one thread\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      print the version\n\n"
	      "  -o OPTIONS, ours:\n",
		to);
	for (size_t i = 0; i < N_ROWS; i++) {
		char values[64] = "";

		for (size_t k = 0; k < 4 && rows[i].choices[k]; k++) {
			strcat(values, k ? "|" : "");
			strcat(values, rows[i].choices[k]);
		}
		fprintf(to, "    %s=%s\n        %s\n", rows[i].name,
			rows[i].kind == CHOICE    ? values
			: rows[i].kind == SECONDS ? "SECONDS"
			: rows[i].kind == BYTES   ? "BYTES"
						  : "FILE",
			rows[i].help);
	}
	fputs("  and those of mount(8) and fuse(8), such as allow_other and ro.\n", to);
}

json_t *options_json(const struct options *o)
{
	json_t *all = json_object();

	for (size_t i = 0; i < N_ROWS; i++) {
		const void *field = (const char *)o + rows[i].field;
		const uint64_t *number = field;
		json_t *value = NULL;

		switch (rows[i].kind) {
		case CHOICE:
			value = json_string(rows[i].choices[*(const int *)field]);
			break;
		case SECONDS:
			value = json_real((double)*number / 1000);
			break;
		case BYTES:
			value = json_integer((json_int_t)*number);
			break;
		case PATH:
			value = *(char *const *)field ? json_string(*(char *const *)field) : NULL;
			break;
		}
		json_object_set_new(all, rows[i].name, value ? value : json_null());
	}
	return all;
}

const char *options_hold_name(const struct options *o)
{
	static const char *const names[] = {"read", "open", "none"};

	return names[o->hold];
}
