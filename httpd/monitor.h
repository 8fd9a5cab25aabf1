/* SPDX-License-Identifier: MIT */
/* The separate listener for /metrics (Prometheus) and /healthz. */
#ifndef HTTPD_MONITOR_H
#define HTTPD_MONITOR_H

struct server;

/* -errno, logged. Takes s->metrics_listener's socket over. */
int monitor_start(struct server *s);
/* Lets go of clients that take too long; every now and then, from main's thread. */
void monitor_reap(struct server *s);
void monitor_stop(struct server *s);

#endif
