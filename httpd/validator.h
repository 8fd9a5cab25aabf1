/* SPDX-License-Identifier: MIT */
/*
 * Validators and preconditions (RFC 9110 sections 8.8 and 13). Pure: the caller supplies the
 * time. Any thread.
 */
#ifndef HTTPD_VALIDATOR_H
#define HTTPD_VALIDATOR_H

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#define VALIDATOR_ETAG_SIZE 96

struct validator {
	bool present; /* false: a growing or aborted file has none */
	time_t modified;
	char etag[VALIDATOR_ETAG_SIZE]; /* with quotes, and W/ while it may still be ambiguous */
};

/* Of a complete file. The tag is weak while the file was changed so recently that another
 * change could carry the same timestamps; then it is no other answer's. */
void validator_of_stat(const struct stat *st, const struct timespec *now, struct validator *ret);

/* The headers as sent; NULL where absent. */
struct conditions {
	const char *if_match, *if_none_match, *if_modified_since, *if_unmodified_since, *if_range;
};

enum condition_result {
	CONDITION_PROCEED,
	CONDITION_NOT_MODIFIED, /* 304 for GET and HEAD */
	CONDITION_FAILED,       /* 412 */
};

/* RFC 9110 section 13.2.2 for an existing representation; reading says GET or HEAD. */
enum condition_result conditions_check(
	const struct conditions *c, const struct validator *v, bool reading, time_t now);

/* Whether Range may be honoured (RFC 9110 section 13.1.5). */
bool conditions_allow_range(const struct conditions *c, const struct validator *v, time_t now);

#endif
