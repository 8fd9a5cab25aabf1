/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/log.h"
#include "httpd/clock.h"
#include "httpd/notify.h"
#include "httpd/options.h"
#include "httpd/privilege.h"
#include "httpd/server.h"

#define REAP_MS 500

struct stopper {
	pthread_t thread;
	sigset_t signals;
	atomic_bool hurry;
};

/* Before the first thread, so that all of them leave these signals to main. */
static void block_signals(sigset_t *set)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, set, NULL); /* cannot fail with these arguments */
	(void)sigaction(SIGPIPE, &ignore, NULL);     /* nor can this */
}

/* A connection is a descriptor, and its file may be another. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return; /* cannot happen */
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("RLIMIT_NOFILE: %s, ignoring", strerror(errno));
}

/* Returns when told to stop. */
static void serve(struct server *s, const sigset_t *signals)
{
	const struct timespec turn = {REAP_MS / 1000, REAP_MS % 1000 * 1000000L};

	for (;;) {
		int signal = sigtimedwait(signals, NULL, &turn);

		if (signal == SIGHUP)
			server_reload(s);
		else if (signal > 0)
			return;
		clients_reap(&s->clients, clock_ms(), false);
		server_tidy(s);
	}
}

/* A second signal ends the patience of the first. */
static void *wait_for_hurry(void *data)
{
	struct stopper *stopper = data;
	int signal;

	if (!sigwait(&stopper->signals, &signal))
		atomic_store(&stopper->hurry, true);
	return NULL;
}

static void stop(struct server *s, const sigset_t *signals)
{
	struct stopper stopper = {.signals = *signals};
	bool threaded;

	log_note("stopping");
	sigdelset(&stopper.signals, SIGHUP);
	threaded = !pthread_create(&stopper.thread, NULL, wait_for_hurry, &stopper);
	server_stop(s, &stopper.hurry);
	if (threaded) {
		(void)pthread_cancel(stopper.thread); /* it may have ended already */
		(void)pthread_join(stopper.thread, NULL);
	}
}

static int run(const struct options *o, const sigset_t *signals)
{
	struct server s;
	int r = server_open(&s, o);

	if (!r)
		r = privilege_drop(o->user, o->group);
	if (!r) {
		r = server_start(&s);
		if (!r) {
			notify("READY=1");
			serve(&s, signals);
		}
		stop(&s, signals);
	}
	server_close(&s);
	return r;
}

int main(int argc, char **argv)
{
	struct options options;
	sigset_t signals;

	log_init("rww-httpd", LOG_NOTE);
	switch (options_parse(argc, argv, &options)) {
	case OPTIONS_EXIT_OK:
		return EXIT_SUCCESS;
	case OPTIONS_EXIT_USAGE:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	log_set_level(options.verbose ? LOG_TRACE : options.quiet ? LOG_WARN : LOG_NOTE);
	if (options.syslog)
		log_to_syslog();
	raise_descriptor_limit();
	block_signals(&signals);
	return run(&options, &signals) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
