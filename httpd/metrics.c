/* SPDX-License-Identifier: MIT */
#include "httpd/metrics.h"

static void metric(struct text *t, const char *name, const char *type, const char *help,
	unsigned long long value)
{
	text_printf(t, "# HELP rww_httpd_%s %s\n# TYPE rww_httpd_%s %s\nrww_httpd_%s %llu\n", name,
		help, name, type, name, value);
}

static void counter(struct text *t, const char *name, const char *help, const atomic_ullong *value)
{
	metric(t, name, "counter", help, atomic_load(value));
}

static void responses(const struct metrics *m, struct text *t)
{
	text_put(t, "# HELP rww_httpd_responses_total Answers by class of status.\n"
		    "# TYPE rww_httpd_responses_total counter\n");
	for (int i = 1; i < 6; i++)
		text_printf(t, "rww_httpd_responses_total{class=\"%dxx\"} %llu\n", i,
			atomic_load(&m->responses[i]));
}

void metrics_format(const struct metrics *m, const struct metrics_gauges *g, struct text *ret)
{
	responses(m, ret);
	counter(ret, "sent_bytes_total", "Body bytes sent.", &m->bytes_sent);
	counter(ret, "received_bytes_total", "Body bytes received.", &m->bytes_received);
	counter(ret, "follows_total", "Answers that followed a growing file.", &m->follows);
	counter(ret, "cuts_total", "Answers cut because the writer failed.", &m->cuts);
	counter(ret, "clients_gone_total", "Requests whose client left early.", &m->clients_gone);
	counter(ret, "uploads_total", "Uploads begun.", &m->uploads);
	counter(ret, "uploads_broken_total", "Uploads that did not arrive whole.",
		&m->uploads_broken);
	metric(ret, "log_lines_dropped_total", "counter", "Lines that the access log did not take.",
		g->log_lines_dropped);
	counter(ret, "auth_failures_total", "Requests with wrong credentials.", &m->auth_failures);
	metric(ret, "connections", "gauge", "Open connections.", g->connections);
	metric(ret, "held_requests", "gauge", "Requests waiting for bytes or a name.", g->held);
	metric(ret, "hashing_requests", "gauge", "Requests whose password waits to be hashed.",
		g->hashing);
	metric(ret, "followed_files", "gauge", "Files and directories being followed.",
		g->followed);
}
