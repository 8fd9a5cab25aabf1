/* SPDX-License-Identifier: MIT */
/*
 * Counters for Prometheus and the separate listener that shows them: /metrics and /healthz.
 * Counting is wait-free, from any thread.
 */
#ifndef HTTPD_METRICS_H
#define HTTPD_METRICS_H

#include <stdatomic.h>

#include "httpd/text.h"

struct metrics {
	atomic_ullong responses[6]; /* by first digit of the status */
	atomic_ullong bytes_sent, bytes_received;
	atomic_ullong follows;      /* answers that followed a growing file */
	atomic_ullong cuts;         /* answers cut because the writer failed */
	atomic_ullong clients_gone; /* requests whose client left before the end */
	atomic_ullong uploads, uploads_broken;
	atomic_ullong auth_failures;
};

struct metrics_gauges {
	unsigned connections, held, hashing, followed, log_lines_dropped;
};

/* The exposition format of Prometheus. */
void metrics_format(const struct metrics *m, const struct metrics_gauges *g, struct text *ret);

#endif
