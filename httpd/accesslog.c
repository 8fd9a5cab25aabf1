/* SPDX-License-Identifier: MIT */
#include "httpd/accesslog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "httpd/text.h"

/* A named pipe that nobody reads from would be waited for. */
static int open_at_once(const char *file)
{
	int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0640);

	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, O_APPEND); /* cannot fail */
	return fd;
}

static int log_file_open(const char *file)
{
	int fd = !strcmp(file, "-") ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : open_at_once(file);
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

	if (!log->file)
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
	log_warn("cannot write to the access log: %s, ignoring", strerror(n < 0 ? errno : ENOSPC));
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
