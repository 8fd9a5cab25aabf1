/* SPDX-License-Identifier: MIT */
/*
 * Messages for people: one line each, "PROGRAM: TEXT", on stderr until log_to_syslog() is called.
 * Any thread. Log once, where the decision is taken; an ignored failure ends in ", ignoring".
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_TRACE };

/* Before the first thread. name is kept, not copied. */
void log_init(const char *name, enum log_level max);
void log_set_level(enum log_level max);
/* From here on messages go to syslog(3), facility daemon. */
void log_to_syslog(void);

void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_note(...)  log_at(LOG_NOTE, __VA_ARGS__)
#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)

#endif
