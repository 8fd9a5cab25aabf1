/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

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

void log_at(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_DEBUG};
	char line[1024];
	int saved = errno;
	va_list ap;

	if (level > level_max)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *p = line; *p; p++) /* of a name, say: it would act on the terminal */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (use_syslog)
		syslog(priority[level], "%s", line);
	else
		fprintf(stderr, "%s: %s\n", program, line); /* one call, one line */
	errno = saved;
}
