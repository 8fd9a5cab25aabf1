/* SPDX-License-Identifier: MIT */
/* Times of files. Any thread. */
#ifndef COMMON_TIMESPEC_H
#define COMMON_TIMESPEC_H

#include <stdbool.h>
#include <time.h>

static inline bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

#endif
