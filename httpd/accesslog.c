/* SPDX-License-Identifier: MIT */
#include "httpd/accesslog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "httpd/clock.h"
#include "httpd/text.h"

#define PIPE_SIZE (1 << 20) /* pipe(7): what anybody may have */
#define TELL_MS   60000     /* between complaints */

/* A pipe that nobody reads from is not waited for, but takes what comes meanwhile. */
static int open_at_once(const char *file)
{
	int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0640);

	if (fd >= 0)
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE); /* it may be none, or shared */
	return fd;
}

/* Others write there as well, and may want to wait: of a pipe we have our own. */
static int stdout_open(void)
{
	struct stat st;
	int fd = -1;

	if (!fstat(STDOUT_FILENO, &st) && S_ISFIFO(st.st_mode))
		fd = open_at_once("/proc/self/fd/1");
	return fd < 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : fd;
}

static bool is_stdout(const char *file)
{
	return !strcmp(file, "-");
}

static int log_file_open(const char *file)
{
	int fd = is_stdout(file) ? stdout_open() : open_at_once(file);
	int r = fd < 0 ? -errno : fd;

	if (r < 0)
		log_error("cannot open the access log %s: %s", file,
			r == -ENXIO ? "nobody reads from this pipe" : strerror(-r));
	return r;
}

int accesslog_open(struct accesslog *log, const char *file, enum options_format format)
{
	*log = (struct accesslog){.file = file, .format = format, .fd = -1};
	if (!file)
		return 0;
	log->fd = log_file_open(file);
	return log->fd < 0 ? log->fd : 0;
}

/* The descriptor keeps its number, so writers need no lock. */
int accesslog_reopen(struct accesslog *log)
{
	int fd, r = 0;

	if (!log->file || is_stdout(log->file))
		return 0;
	fd = log_file_open(log->file);
	if (fd < 0)
		return fd;
	if (dup3(fd, log->fd, O_CLOEXEC) < 0)
		r = -errno;
	else
		atomic_store(&log->torn, false);
	(void)close(fd); /* nothing was written through it */
	return r;
}

void accesslog_close(struct accesslog *log)
{
	if (log->fd >= 0 && close(log->fd))
		log_warn("the access log may be incomplete: %s", strerror(errno));
	log->fd = -1;
	if (atomic_load(&log->dropped))
		log_warn("%u lines of the access log were dropped", atomic_load(&log->dropped));
}

static const char *or_dash(const char *s)
{
	return s && *s ? s : "-";
}

static void format_first_line(struct text *t, const struct accesslog_entry *e)
{
	const char *parts[] = {e->method, e->target, e->version};

	if (!e->target) { /* it was none */
		text_put(t, "-");
		return;
	}
	for (size_t i = 0; i < 3; i++) {
		text_put(t, i ? " " : "");
		text_escape_log(t, or_dash(parts[i]));
	}
}

static void format_combined(struct text *t, const struct accesslog_entry *e)
{
	char when[40];
	struct tm tm;

	localtime_r(&e->when, &tm);
	strftime(when, sizeof(when), "%d/%b/%Y:%H:%M:%S %z", &tm);
	text_printf(t, "%s - ", e->address);
	text_escape_log(t, or_dash(e->user));
	text_printf(t, " [%s] \"", when);
	format_first_line(t, e);
	text_printf(t, "\" %u %" PRIu64 " \"", e->status, e->bytes);
	text_escape_log(t, or_dash(e->referer));
	text_put(t, "\" \"");
	text_escape_log(t, or_dash(e->agent));
	text_put(t, "\"\n");
}

static void json_field(struct text *t, const char *name, const char *value)
{
	text_printf(t, ",\"%s\":", name);
	if (value)
		text_json(t, value);
	else
		text_put(t, "null");
}

static void format_json(struct text *t, const struct accesslog_entry *e)
{
	char when[40];
	struct tm tm;

	gmtime_r(&e->when, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	text_printf(t, "{\"time\":\"%s\"", when);
	json_field(t, "address", e->address);
	json_field(t, "user", e->user);
	json_field(t, "method", e->method);
	json_field(t, "target", e->target);
	json_field(t, "version", e->version);
	text_printf(t, ",\"status\":%u,\"bytes\":%" PRIu64 ",\"ms\":%" PRIu64, e->status, e->bytes,
		e->milliseconds);
	json_field(t, "outcome", e->outcome);
	json_field(t, "referer", e->referer);
	json_field(t, "agent", e->agent);
	text_put(t, "}\n");
}

/* A pipe whose reader does not read: nobody waits for him. */
static void drop_line(struct accesslog *log)
{
	unsigned count = atomic_fetch_add(&log->dropped, 1) + 1;
	uint64_t now = clock_ms();
	uint_fast64_t told = atomic_load(&log->told_ms);

	if ((!told || now - told >= TELL_MS) &&
		atomic_compare_exchange_strong(&log->told_ms, &told, now))
		log_warn("nobody takes what is written to the access log: lines are dropped, %u so "
			 "far",
			count);
}

/* In one piece. A line that a full disk took only half of ends where the next one begins. */
static void write_line(struct accesslog *log, const struct text *t)
{
	bool torn = atomic_exchange(&log->torn, false);
	struct iovec parts[] = {{(void *)(uintptr_t) "\n", torn}, {t->data, t->len}};
	ssize_t n = writev(log->fd, parts, 2);

	if (n == (ssize_t)(t->len + torn))
		return;
	if (torn || n > 0)
		atomic_store(&log->torn, true);
	if (n < 0 && errno == EAGAIN)
		drop_line(log);
	else
		log_warn("cannot write to the access log: %s, ignoring",
			strerror(n < 0 ? errno : ENOSPC));
}

void accesslog_write(struct accesslog *log, const struct accesslog_entry *entry)
{
	struct text t = {0};

	if (!log->file)
		return;
	if (log->format == FORMAT_JSON)
		format_json(&t, entry);
	else
		format_combined(&t, entry);
	if (t.failed)
		log_warn("cannot write to the access log: %s, ignoring", strerror(ENOMEM));
	else
		write_line(log, &t);
	text_free(&t);
}
