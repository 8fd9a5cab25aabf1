/* SPDX-License-Identifier: MIT */
#include "fs/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/output.h"
#include "common/parse.h"
#include "common/refused.h"
#include "fs/marker.h"

/* wait's exit status: timed out is timeout(1)'s. */
enum exit_status { EXIT_USAGE = 2, EXIT_ABORTED = 3, EXIT_TIMED_OUT = 124 };

static const char usage[] =
	"usage: rwwctl status [--json] [PATH]\n"
	"       rwwctl watch [--interval SECONDS] [--count N] [PATH]\n"
	"       rwwctl declare FILE SIZE\n"
	"       rwwctl abort [--reason TEXT] FILE...\n"
	"       rwwctl complete FILE...\n"
	"       rwwctl wait [--timeout SECONDS] FILE...\n"
	"       rwwctl --help | --version\n\n"
	"PATH is any path on the mount (default: the working directory). SIZE is in bytes;\n"
	"K, M, G and T stand for powers of 1024.\n"
	"wait exits with 0 when all are complete, 3 when one is aborted, 124 when time is up.\n";

struct arguments {
	bool json;
	const char *reason;
	uint64_t interval_ms, timeout_ms, count;
	int n;
	char **rest;
};

static int bad_usage(const char *fmt, const char *what)
{
	log_error(fmt, what);
	return EXIT_USAGE;
}

/* What the mount answered to a request about path. */
static int complain(const char *path, int e, const char *eperm)
{
	const char *why = e == EPERM    ? eperm
			  : e == ERANGE ? "the size is less than what is written"
			  : e == EFBIG  ? "no file can be that large"
					: ctl_strerror(e);

	log_error("%s: %s", path, why);
	return EXIT_FAILURE;
}

/* The attribute as text; negative errno. */
static int get(const char *path, const char *name, char *buf, size_t size)
{
	ssize_t n = getxattr(path, name, buf, size - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

/* A regular file on an rwwfs mount: otherwise one line says what it is. */
static int check_file(const char *path)
{
	autofree char *mountpoint = NULL;
	struct stat st;
	int r = ctl_mount_of(path, &mountpoint);

	if (r < 0)
		return r;
	if (stat(path, &st) < 0) {
		r = -errno; /* it went away meanwhile */
		log_error("%s: %s", path, ctl_strerror(-r));
		return r;
	}
	if (S_ISREG(st.st_mode))
		return 0;
	log_error("%s: not a regular file", path);
	return -EINVAL;
}

static int set(const char *path, const char *name, const char *value, const char *eperm)
{
	if (check_file(path) < 0)
		return EXIT_FAILURE;
	if (setxattr(path, name, value, strlen(value), 0) < 0)
		return complain(path, errno, eperm);
	return EXIT_SUCCESS;
}

/* --- status and watch ----------------------------------------------------------------------- */

static int terminal_columns(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static int find_mount(const struct arguments *a, char **ret)
{
	if (a->n > 1)
		return bad_usage("unexpected argument \"%s\"", a->rest[1]);
	return ctl_mount_of(a->n ? a->rest[0] : ".", ret) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A pipe that nobody reads ends the program before that. */
static int check_output(void)
{
	return output_arrived() ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int show_once(const char *mountpoint, bool clear)
{
	bool terminal = isatty(STDOUT_FILENO);
	json_t *status = NULL;

	if (ctl_status(mountpoint, &status) < 0)
		return EXIT_FAILURE;
	if (clear && terminal)
		fputs("\033[H\033[J", stdout);
	ctl_show(status, stdout, terminal, terminal_columns());
	json_decref(status);
	return check_output();
}

static int do_status(const struct arguments *a)
{
	autofree char *mountpoint = NULL;
	int r = find_mount(a, &mountpoint);

	if (r != EXIT_SUCCESS)
		return r;
	if (!a->json)
		return show_once(mountpoint, false);
	return ctl_copy_status(mountpoint, stdout) < 0 ? EXIT_FAILURE : check_output();
}

/* Until interrupted, until nobody reads, or the given number of times. */
static int do_watch(const struct arguments *a)
{
	autofree char *mountpoint = NULL;
	int r = find_mount(a, &mountpoint);

	for (uint64_t n = 1; r == EXIT_SUCCESS; n++) {
		r = show_once(mountpoint, true);
		if (n == a->count)
			break;
		(void)poll(NULL, 0, (int)a->interval_ms);
	}
	return r;
}

/* --- steering ------------------------------------------------------------------------------- */

/* "100", "4K", "1G" */
static int parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	autofree char *digits = strdup(text);
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
	int r;

	if (!digits)
		return -ENOMEM;
	if (unit)
		digits[len - 1] = '\0';
	r = parse_u64(digits, ret);
	if (r == 0 && *ret > (UINT64_MAX >> shift))
		return -ERANGE;
	*ret <<= shift;
	return r;
}

static int do_declare(const struct arguments *a)
{
	char text[24];
	uint64_t size = 0;
	int r;

	if (a->n != 2)
		return bad_usage("declare: expected %s", "FILE SIZE");
	r = parse_size(a->rest[1], &size);
	if (r == -ERANGE)
		return bad_usage("declare: size \"%s\": no file can be that large", a->rest[1]);
	if (r < 0)
		return bad_usage(
			"declare: size \"%s\": expected bytes, such as 1000 or 4M", a->rest[1]);
	snprintf(text, sizeof(text), "%" PRIu64, size);
	return set(a->rest[0], "user.rww.size", text, "it is not growing");
}

static int do_each(const struct arguments *a, const char *name, const char *state)
{
	int worst = EXIT_SUCCESS;

	if (a->n < 1)
		return bad_usage("%s: expected FILE...", name);
	for (int i = 0; i < a->n; i++) {
		int r = set(a->rest[i], "user.rww.state", state, strerror(EPERM));

		worst = r > worst ? r : worst;
	}
	return worst;
}

static int do_abort(const struct arguments *a)
{
	autofree char *state = NULL;

	if (asprintf(&state, "aborted %s", a->reason ? a->reason : "by rwwctl") < 0)
		return EXIT_FAILURE;
	if (a->reason && strlen(a->reason) >= MARKER_REASON_MAX) {
		log_error("abort: reason \"%.20s...\": expected at most %d bytes", a->reason,
			MARKER_REASON_MAX - 1);
		return EXIT_USAGE;
	}
	return do_each(a, "abort", state);
}

static int do_complete(const struct arguments *a)
{
	return do_each(a, "complete", "complete");
}

/* --- wait ----------------------------------------------------------------------------------- */

/* Sleeps until the file may have ended, deadline at the latest (UINT64_MAX: none). */
static int sleep_on(const char *path, uint64_t deadline)
{
	/* O_SYNC beside O_NONBLOCK: however the mount holds, this open does not wait */
	autoclose int fd = open(path, O_RDONLY | O_NONBLOCK | O_SYNC | O_CLOEXEC);
	uint64_t now = clock_ms(), left = deadline > now ? deadline - now : 0;
	int ms = deadline == UINT64_MAX || left > 60000 ? 60000 : (int)left;
	struct pollfd p = {.fd = fd}; /* no events: the end comes as POLLHUP or POLLERR */
	char state[256];

	if (fd < 0 && errno == EAGAIN) { /* it is just being changed */
		p.fd = -1;
		ms = ms > 100 ? 100 : ms;
	} else if (fd < 0 && errno != EIO) { /* EIO: aborted=deny; the state tells */
		return -errno;
	}
	/* Whoever opened it when it had ended is not told. */
	if (fd >= 0 && (get(path, "user.rww.state", state, sizeof(state)) < 0 ||
			       strcmp(state, "growing") != 0))
		return 0;
	return poll(&p, 1, ms) < 0 && errno != EINTR ? -errno : 0;
}

static int wait_for(const char *path, uint64_t deadline)
{
	char state[256], reason[256];
	int r;

	for (;;) {
		if (check_file(path) < 0) /* it may be unmounted meanwhile */
			return EXIT_FAILURE;
		r = get(path, "user.rww.state", state, sizeof(state));
		if (r < 0)
			return complain(path, -r, strerror(-r));
		if (!strcmp(state, "complete"))
			return EXIT_SUCCESS;
		if (!strcmp(state, "aborted")) {
			r = get(path, "user.rww.reason", reason, sizeof(reason));
			log_error("%s: aborted: %s", path, r < 0 ? "no reason known" : reason);
			return EXIT_ABORTED;
		}
		if (clock_ms() >= deadline) {
			log_error("%s: still growing", path);
			return EXIT_TIMED_OUT;
		}
		r = sleep_on(path, deadline);
		if (r < 0)
			return complain(path, -r, strerror(-r));
	}
}

static int do_wait(const struct arguments *a)
{
	uint64_t deadline = a->timeout_ms == UINT64_MAX ? UINT64_MAX : clock_ms() + a->timeout_ms;
	int worst = EXIT_SUCCESS;

	if (a->n < 1)
		return bad_usage("wait: expected %s", "FILE...");
	for (int i = 0; i < a->n; i++) {
		int r = wait_for(a->rest[i], deadline);

		worst = r > worst ? r : worst;
	}
	return worst;
}

/* --- the command line ----------------------------------------------------------------------- */

enum { OPT_JSON = 256, OPT_REASON, OPT_INTERVAL, OPT_TIMEOUT, OPT_COUNT };

static const struct option long_options[] = {
	{"json", no_argument, NULL, OPT_JSON},
	{"reason", required_argument, NULL, OPT_REASON},
	{"interval", required_argument, NULL, OPT_INTERVAL},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"count", required_argument, NULL, OPT_COUNT},
	{NULL, 0, NULL, 0},
};

static const struct command {
	const char *name;
	int (*run)(const struct arguments *a);
	int options[2];
} commands[] = {
	{"status", do_status, {OPT_JSON}},
	{"watch", do_watch, {OPT_INTERVAL, OPT_COUNT}},
	{"declare", do_declare, {0}},
	{"abort", do_abort, {OPT_REASON}},
	{"complete", do_complete, {0}},
	{"wait", do_wait, {OPT_TIMEOUT}},
};

static const char *name_of(int option)
{
	const struct option *o = long_options;

	while (o->val != option)
		o++;
	return o->name;
}

static int bad_value(int option, const char *value, const char *expected)
{
	log_error("option --%s=%s: expected %s", name_of(option), value, expected);
	return EXIT_USAGE;
}

static int set_count(const char *value, uint64_t *ret)
{
	int r = parse_u64(value, ret);

	if (r == -ERANGE)
		*ret = UINT64_MAX; /* nobody sees the end of that */
	if (r == -ERANGE || (r == 0 && *ret))
		return EXIT_SUCCESS;
	return bad_value(OPT_COUNT, value, "a number, 1 at least");
}

static int set_interval(const char *value, uint64_t *ret_ms)
{
	if (parse_seconds_ms(value, ret_ms) == 0 && *ret_ms >= 10 && *ret_ms <= 3600 * 1000)
		return EXIT_SUCCESS;
	return bad_value(OPT_INTERVAL, value, "seconds, 0.01 to 3600");
}

static int set_timeout(const char *value, uint64_t *ret_ms)
{
	if (parse_seconds_ms(value, ret_ms) == 0)
		return EXIT_SUCCESS;
	return bad_value(OPT_TIMEOUT, value, "seconds, such as 30 or 0.5, up to 2147483647");
}

static int set_option(int option, const char *value, struct arguments *ret)
{
	switch (option) {
	case OPT_COUNT:
		return set_count(value, &ret->count);
	case OPT_INTERVAL:
		return set_interval(value, &ret->interval_ms);
	case OPT_TIMEOUT:
		return set_timeout(value, &ret->timeout_ms);
	case OPT_REASON:
		ret->reason = value;
		return EXIT_SUCCESS;
	default:
		ret->json = true;
		return EXIT_SUCCESS;
	}
}

/* EXIT_SUCCESS, or EXIT_USAGE after a message. */
static int parse(const struct command *c, int argc, char **argv, struct arguments *ret)
{
	char letter[REFUSED_SIZE];
	int o, r;

	opterr = 0;
	if (c->run == do_declare && argc == 3 && argv[2][0] == '-' && isdigit(argv[2][1])) {
		ret->n = 2; /* a number, if no size */
		ret->rest = argv + 1;
		return EXIT_SUCCESS;
	}
	while ((o = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (o == ':')
			return bad_usage("option \"%s\": expected a value", argv[optind - 1]);
		if (o == '?')
			return bad_usage("unknown option \"%s\": see rwwctl --help",
				refused_option(argv, ":", letter));
		if (o != c->options[0] && o != c->options[1])
			return bad_usage("unknown option \"--%s\": see rwwctl --help", name_of(o));
		r = set_option(o, optarg, ret);
		if (r != EXIT_SUCCESS)
			return r;
	}
	ret->n = argc - optind;
	ret->rest = argv + optind;
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct arguments a = {.interval_ms = 1000, .timeout_ms = UINT64_MAX};

	log_init("rwwctl", LOG_NOTE);
	if (argc < 2)
		return bad_usage("expected a command: see %s", "rwwctl --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
		(argc == 3 && !strcmp(argv[2], "--help"))) {
		fputs(usage, stdout);
		return check_output();
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("rwwctl %s\n", RWWFS_VERSION);
		return check_output();
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name)) {
			int r = parse(&commands[i], argc - 1, argv + 1, &a);

			return r == EXIT_SUCCESS ? commands[i].run(&a) : r;
		}
	return bad_usage("unknown command \"%s\": see rwwctl --help", argv[1]);
}
