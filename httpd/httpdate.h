/* SPDX-License-Identifier: MIT */
/*
 * HTTP dates (RFC 9110 section 5.6.7). Pure, no locale, no time zone, any thread. Times are
 * seconds since 1970-01-01 UTC.
 */
#ifndef HTTPD_HTTPDATE_H
#define HTTPD_HTTPDATE_H

#include <time.h>

#define HTTPDATE_SIZE 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and its NUL */

/* Years 0 to 9999; others give an empty string. Returns buf. */
const char *httpdate_format(time_t when, char buf[static HTTPDATE_SIZE]);

/* Any of the three forms. now resolves two-digit years. -EINVAL leaves *ret untouched. */
int httpdate_parse(const char *text, time_t now, time_t *ret);

#endif
