/* SPDX-License-Identifier: MIT */
/*
 * One line per request, in the combined format of Apache and nginx or as a JSON object. Any
 * thread: a line is one write(2) to an append-only descriptor, which waits for nobody: what a full
 * pipe does not take is dropped. accesslog_reopen() may run beside writers.
 */
#ifndef HTTPD_ACCESSLOG_H
#define HTTPD_ACCESSLOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "httpd/options.h"

struct accesslog {
	const char *file; /* NULL: no log; "-": stdout */
	enum options_format format;
	int fd;
	atomic_bool torn;    /* its last line has no end */
	atomic_uint dropped; /* lines, which a pipe did not take */
	atomic_uint_fast64_t told_ms;
};

/* Strings may be NULL, and hold whatever a client sent. */
struct accesslog_entry {
	const char *address, *user, *method, *target, *version, *referer, *agent;
	const char *outcome; /* "ok", "aborted", "client gone" ... */
	unsigned status;
	uint64_t bytes, milliseconds;
	time_t when;
};

/* -errno, logged. */
int accesslog_open(struct accesslog *log, const char *file, enum options_format format);
int accesslog_reopen(struct accesslog *log);
void accesslog_close(struct accesslog *log);

void accesslog_write(struct accesslog *log, const struct accesslog_entry *entry);

#endif
