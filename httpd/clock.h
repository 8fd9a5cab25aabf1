/* SPDX-License-Identifier: MIT */
/* Monotonic time in milliseconds, for deadlines. 0 is never "now": it means no deadline. */
#ifndef HTTPD_CLOCK_H
#define HTTPD_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
}

/* 0 as a limit is none. */
static inline uint64_t clock_deadline(uint64_t limit_ms)
{
	return limit_ms ? clock_ms() + limit_ms : 0;
}

#endif
