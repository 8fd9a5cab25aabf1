/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "common/control.h"

#define LINE_MOST (2 * PATH_MAX + 1024) /* two names, and words */

static const char *program = "rww";
static enum log_level level_max = LOG_NOTE;
static bool use_syslog;

void log_init(const char *name, enum log_level max)
{
	program = name;
	level_max = max;
}

void log_set_level(enum log_level max)
{
	level_max = max;
}

void log_to_syslog(void)
{
	openlog(program, LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

/* With one write(2): as a whole, whoever else writes there. stdio does not promise that: on stderr
 * that of glibc 2.41 writes pieces of 128 bytes. */
static void write_line(const char *line, size_t len)
{
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
}

/* Returns the end. */
static char *mask_controls(char *text)
{
	char *to = text;

	for (const char *c = text; *c;) {
		size_t control = control_length(c);

		*to++ = control ? '?' : *c;
		c += control ? control : 1;
	}
	*to = '\0';
	return to;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_DEBUG};
	char line[LINE_MOST], *message, *end;
	int saved = errno;
	va_list ap;

	if (level > level_max)
		return;
	message = line + snprintf(line, sizeof(line), "%.32s: ", program);
	va_start(ap, fmt);
	vsnprintf(message, (size_t)(line + sizeof(line) - 1 - message), fmt, ap);
	va_end(ap);
	end = mask_controls(message);
	if (use_syslog) {
		syslog(priority[level], "%s", message);
	} else {
		*end++ = '\n';
		write_line(line, (size_t)(end - line));
	}
	errno = saved;
}
