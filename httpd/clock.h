/* SPDX-License-Identifier: MIT */
/* Deadlines on the monotonic clock, in milliseconds. 0 is none. */
#ifndef HTTPD_CLOCK_H
#define HTTPD_CLOCK_H

#include "common/clock.h"

/* 0 as a limit is none. */
static inline uint64_t clock_deadline(uint64_t limit_ms)
{
	return limit_ms ? clock_ms() + limit_ms : 0;
}

#endif
