/* SPDX-License-Identifier: MIT */
/* Times on the monotonic clock, where not said otherwise. Any thread. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

static inline struct timespec clock_after(struct timespec ts, long ns)
{
	ts.tv_nsec += ns;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

/* In us from now (below a second). */
static inline struct timespec clock_in_us(long us)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return clock_after(ts, us * 1000);
}

/* In ms from now (below 1000), for functions that wait until a time of CLOCK_REALTIME. */
static inline struct timespec clock_real_in_ms(long ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return clock_after(ts, ms * 1000000);
}

#endif
