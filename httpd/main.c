/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/output.h"
#include "httpd/clock.h"
#include "httpd/notify.h"
#include "httpd/options.h"
#include "httpd/privilege.h"
#include "httpd/server.h"

#define REAP_MS        500
#define LAST_RESORT_MS 5000
#define STOP           SIGUSR2 /* to main, from the stopper */

/*
 * The thread that is told to stop. It never touches a file, so it can end this program when others
 * hang, main among them, in a mount whose daemon does not answer: there a thread heeds no signal
 * but SIGKILL, and so cannot be joined.
 */
struct stopper {
	pthread_t thread, main;
	uint64_t drain_ms;
	atomic_bool hurry;
	atomic_bool ended; /* it is no longer needed */
};

static sigset_t both(int a, int b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, a);
	sigaddset(&set, b);
	return set;
}

static sigset_t signals_to_stop(void)
{
	return both(SIGTERM, SIGINT);
}

static sigset_t signals_of_main(void)
{
	return both(SIGHUP, STOP);
}

/* Before the first thread, so that all of them leave these signals to two. */
static void block_signals(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t stop = signals_to_stop(), mine = signals_of_main();

	(void)pthread_sigmask(SIG_BLOCK, &stop, NULL); /* cannot fail with these arguments */
	(void)pthread_sigmask(SIG_BLOCK, &mine, NULL);
	(void)sigaction(SIGPIPE, &ignore, NULL); /* nor can this */
	(void)sigaction(SIGXFSZ, &ignore, NULL); /* RLIMIT_FSIZE: who uploads is told */
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
static void serve(struct server *s)
{
	sigset_t signals = signals_of_main();
	const struct timespec turn = {REAP_MS / 1000, REAP_MS % 1000 * 1000000L};

	for (;;) {
		int signal = sigtimedwait(&signals, NULL, &turn);

		if (signal == SIGHUP)
			server_reload(s);
		else if (signal > 0)
			return;
		clients_reap(&s->clients, clock_ms(), false);
		server_tidy(s);
	}
}

/* Not by an exit, of which a mount would take uploads that still run for whole. */
static void stop_anyhow(void)
{
	log_error("something that is served does not answer: ending without it");
	(void)kill(getpid(), SIGKILL);
}

/* A second signal ends the patience of the first. */
static void *stopper_run(void *data)
{
	struct stopper *st = data;
	sigset_t signals = signals_to_stop();
	uint64_t now, until;
	int signal;

	(void)sigwait(&signals, &signal); /* cannot fail with this set */
	(void)pthread_kill(st->main, STOP);
	until = clock_ms() + st->drain_ms + LAST_RESORT_MS;
	while (!atomic_load(&st->ended)) {
		struct timespec left;

		now = clock_ms();
		if (now >= until)
			stop_anyhow();
		left.tv_sec = (time_t)((until - now) / 1000);
		left.tv_nsec = (long)((until - now) % 1000 * 1000000);
		if (sigtimedwait(&signals, NULL, &left) > 0 && !atomic_exchange(&st->hurry, true))
			until = clock_ms() + LAST_RESORT_MS;
	}
	return NULL;
}

static int stopper_start(struct stopper *st, const struct options *o)
{
	int r;

	*st = (struct stopper){.main = pthread_self(), .drain_ms = o->drain_timeout_ms};
	r = -pthread_create(&st->thread, NULL, stopper_run, st);
	if (r < 0)
		log_error("cannot start the thread that waits for signals: %s", strerror(-r));
	return r;
}

/* Not by pthread_cancel(3), which loads a library: without a descriptor for it, it aborts. */
static void stopper_end(struct stopper *st)
{
	atomic_store(&st->ended, true);
	(void)pthread_kill(st->thread, SIGTERM); /* it runs: else all has ended */
	(void)pthread_join(st->thread, NULL);
}

static int run(const struct options *o)
{
	struct stopper stopper;
	struct server s;
	int r = server_open(&s, o);

	if (!r)
		r = privilege_drop(o->user, o->group);
	if (!r)
		r = stopper_start(&stopper, o);
	if (r < 0) {
		server_close(&s);
		return r;
	}
	r = server_start(&s);
	if (!r) {
		notify("READY=1");
		serve(&s);
	}
	log_note("stopping");
	server_stop(&s, &stopper.hurry);
	server_close(&s);
	stopper_end(&stopper);
	return r;
}

int main(int argc, char **argv)
{
	struct options options;

	log_init("rww-httpd", LOG_NOTE);
	switch (options_parse(argc, argv, &options)) {
	case OPTIONS_EXIT_OK:
		return output_arrived() ? EXIT_SUCCESS : EXIT_FAILURE;
	case OPTIONS_EXIT_USAGE:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	log_set_level(options.verbose ? LOG_TRACE : options.quiet ? LOG_WARN : LOG_NOTE);
	if (options.syslog)
		log_to_syslog();
	raise_descriptor_limit();
	block_signals();
	return run(&options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
