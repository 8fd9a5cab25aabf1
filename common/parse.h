/* SPDX-License-Identifier: MIT */
/*
 * Numbers out of text that people or programs sent. Pure. 0 on success; -EINVAL when the text is
 * not wholly of the stated form, -ERANGE when its value does not fit; *ret is then untouched.
 */
#ifndef COMMON_PARSE_H
#define COMMON_PARSE_H

#include <stdint.h>

/* Decimal digits and nothing else: no sign, no space, no base prefix. */
int parse_u64(const char *text, uint64_t *ret);

/* A lifetime; added to any clock, it does not wrap. */
#define PARSE_SECONDS_MOST INT32_MAX

/* Seconds, with an optional decimal fraction ("1", "0.25"), up to PARSE_SECONDS_MOST; *ret in
 * milliseconds, rounded up. */
int parse_seconds_ms(const char *text, uint64_t *ret);

#endif
