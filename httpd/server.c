/* SPDX-License-Identifier: MIT */
#include "httpd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <malloc.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/clock.h"
#include "httpd/monitor.h"
#include "httpd/notify.h"
#include "httpd/request.h"
#include "httpd/request_log.h"
#include "httpd/root.h"
#include "httpd/tls.h"

#define CROWD 256 /* connections whose memory is worth giving back */

/* -- opening ---------------------------------------------------------------------------------- */

/* What is neither of these devices is asked, so between two roots it is 0. */
static void note_root(struct server *s, dev_t device, bool live)
{
	atomic_store(&s->live_device, live ? device : 0);
	atomic_store(&s->plain_device, live ? 0 : device);
}

static int open_root(struct server *s)
{
	struct stat st;
	int r;

	s->root = open(s->options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = s->root < 0 || fstat(s->root, &st) ? -errno : state_is_known(s->root);
	if (r < 0) {
		log_error("cannot serve %s: %s", s->options->root, strerror(-r));
		return r;
	}
	note_root(s, st.st_dev, r);
	r = root_open(s->root, "", O_PATH, 0);
	if (r == -ENOSYS || r == -EPERM) {
		log_error(
			"openat2(2) is refused (%s): a kernel before Linux 5.6, or a sandbox such "
			"as systemd's RestrictSUIDSGID=",
			strerror(-r));
		return r;
	}
	cleanup_close(&r);
	return 0;
}

/* Takes what is at the root's path now; for a mount that was lost, only another mount. */
static int reopen_root(struct server *s)
{
	autoclose int fd = open(s->options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int live;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	live = state_is_known(fd);
	if (live < 0)
		return live;
	if (s->live_device && !live)
		return -EMEDIUMTYPE;
	note_root(s, 0, true);
	(void)dup3(fd, s->root, O_CLOEXEC); /* else the next request finds it lost again */
	note_root(s, st.st_dev, live);
	if (atomic_exchange(&s->root_lost, false))
		log_note("%s is back", s->options->root);
	return 0;
}

static int open_listeners(struct server *s)
{
	int first, count = notify_sockets(&first), r = 0;
	unsigned metrics = 0;

	if (count < 0)
		log_warn("cannot take the sockets of the service manager: %s, ignoring",
			strerror(-count));
	if (count > LISTEN_MAX) {
		log_error("the service manager passed %d sockets: expected at most %d", count,
			LISTEN_MAX);
		return -E2BIG;
	}
	for (int i = 0; !r && i < count; i++)
		r = listen_inherited(first + i, &s->listeners[s->listener_count++]);
	for (unsigned i = 0; !r && count <= 0 && i < s->options->listen_count; i++)
		r = listen_on(s->options->listen[i], s->listeners, LISTEN_MAX, &s->listener_count);
	if (!r && s->options->metrics)
		r = listen_on(s->options->metrics, &s->metrics_listener, 1, &metrics);
	return r;
}

static int open_tls(struct server *s)
{
	s->tls = s->options->cert != NULL;
	return s->tls ? tls_load(s->options->cert, s->options->key) : 0;
}

/* A named pipe would make this program wait for whoever writes to it, deaf to signals. One that has
 * no name, of a shell's <(...), is written to already. */
static bool is_named_pipe(const char *file)
{
	struct stat st;
	struct statfs fs;

	return !stat(file, &st) && S_ISFIFO(st.st_mode) && !statfs(file, &fs) &&
	       fs.f_type != PIPEFS_MAGIC;
}

/* Of what is read at the start, and again. */
static int check_files(const struct options *o)
{
	const char *const files[] = {o->mime_types, o->cert, o->key, o->htpasswd, o->tokens};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (!files[i] || !is_named_pipe(files[i]))
			continue;
		log_error("cannot read %s: it is a named pipe", files[i]);
		return -EINVAL;
	}
	return 0;
}

/* An upload without credentials is for this machine only. */
static int check_upload(const struct server *s)
{
	if (!s->options->upload || s->auth)
		return 0;
	for (unsigned i = 0; i < s->listener_count; i++) {
		if (s->listeners[i].loopback)
			continue;
		log_error("option '--upload': needs --htpasswd or --tokens, since %s is not a "
			  "loopback "
			  "address",
			s->listeners[i].address);
		return -EPERM;
	}
	return 0;
}

int server_open(struct server *s, const struct options *o)
{
	int r;

	*s = (struct server){.options = o, .root = -1};
	for (unsigned i = 0; i < LISTEN_MAX; i++)
		s->listeners[i].fd = -1;
	s->metrics_listener.fd = -1;
	s->log.fd = -1;
	pthread_rwlock_init(&s->auth_lock, NULL);
	clients_init(&s->clients);
	uploads_init(&s->uploads);
	recent_init(&s->recent);
	r = acceptor_init(&s->acceptor, (unsigned)o->max_connections, (unsigned)o->max_per_ip);
	if (r < 0)
		log_error("cannot prepare for connections: %s", strerror(-r));
	else
		r = check_files(o);
	if (!r) {
		s->mime = mime_new(o->mime_types);
		r = s->mime ? open_root(s) : -ENOMEM;
	}
	if (!r)
		r = open_listeners(s);
	if (!r)
		r = open_tls(s);
	if (!r)
		r = auth_load(o, &s->auth);
	if (!r)
		r = check_upload(s);
	return r ? r : accesslog_open(&s->log, o->access_log, o->log_format);
}

void server_close(struct server *s)
{
	hasher_free(s->hasher);
	follow_free(s->follow);
	while (s->worker_count)
		worker_done(&s->workers[--s->worker_count]);
	free(s->workers);
	for (unsigned i = 0; i < LISTEN_MAX; i++)
		cleanup_close(&s->listeners[i].fd);
	cleanup_close(&s->metrics_listener.fd);
	accesslog_close(&s->log);
	auth_free(s->auth);
	mime_free(s->mime);
	cleanup_close(&s->root);
	clients_destroy(&s->clients);
	uploads_destroy(&s->uploads);
	recent_destroy(&s->recent);
	acceptor_done(&s->acceptor);
	pthread_rwlock_destroy(&s->auth_lock);
	tls_free();
}

/* -- running ---------------------------------------------------------------------------------- */

static void library_log(void *cls, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* What the library has to say is about single clients: not worth more than a trace. Of a request
 * that it refuses at its first line it tells the status nowhere else. */
static void library_log(void *cls, const char *fmt, va_list ap)
{
	struct worker *w = cls;
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_trace("%s", line);
	(void)sscanf(line, "Error processing request (HTTP response code is %u", &w->refused);
}

/* Percent-encoding is path.c's business. */
static size_t keep_escapes(void *cls, struct MHD_Connection *connection, char *text)
{
	return strlen(text);
}

/* What is said last, while it can still be said. */
static void connection_ends(void *context)
{
	struct client *client = context;

	if (client->request)
		request_forgotten(client->request);
	request_unread(client->peer.worker->owner, client);
}

static struct client *connection_begins(struct worker *w, struct MHD_Connection *connection)
{
	struct server *s = w->owner;
	int socket =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	struct client *client = client_new(
		&s->clients, s->follow, w, socket, clock_deadline(s->options->header_timeout_ms));

	if (!client || !s->tls)
		return client;
	client->encrypted = true;
	tls_peer_init(&client->tls,
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
			->tls_session,
		connection_ends, client);
	return client;
}

static void connection_changed(void *cls, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct worker *w = cls;
	struct server *s = w->owner;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		*context = connection_begins(w, connection);
	} else if (*context) {
		struct client *client = *context;

		client->tls.session = NULL; /* it may have broken without a goodbye, and is freed */
		connection_ends(client);
		/* An end before the reset that what was not read makes of a close: clients that see
		 * only that one take the answer for lost; and no reset if all can be read. */
		client_end(client->socket);
		client_drain(client->socket);
		client_free(&s->clients, client);
		*context = NULL;
	}
	worker_connection(w, connection, what);
}

static struct MHD_Daemon *daemon_start(struct server *s, struct worker *w)
{
	const struct options *o = s->options;
	unsigned seconds = (unsigned)((o->idle_timeout_ms + 999) / 1000);
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ERROR_LOG;
	/* 0.9.75, where that only means to refuse a request without Host, or whose target has a
	 * space, answers the first twice, one time as the body of the other: request.c does both.
	 */
	int strict = MHD_VERSION >= 0x01000000;
	struct MHD_OptionItem more[2] = {0};
	unsigned n = 0;

	/* We may still have to answer when a connection closes (request_unread()): "turbo" leaves
	 * its socket open until then, but TLS not; see connection_changed(), tls_peer.
	 * Otherwise it only puts an epoll_ctl(2) off. */
	if (!s->tls) {
		flags |= MHD_USE_TURBO;
	} else {
		flags |= MHD_USE_TLS;
		more[n++] = (struct MHD_OptionItem){
			MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, (void *)(intptr_t)tls_retrieve};
	}
	more[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	return MHD_start_daemon(flags, 0, NULL, NULL, request_handle, s,
		/* the logger first: it hears what is wrong with the others */
		MHD_OPTION_EXTERNAL_LOGGER, library_log, w, MHD_OPTION_URI_LOG_CALLBACK,
		request_begin, s, MHD_OPTION_NOTIFY_COMPLETED, request_end, s,
		MHD_OPTION_NOTIFY_CONNECTION, connection_changed, w, MHD_OPTION_UNESCAPE_CALLBACK,
		keep_escapes, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, SERVER_POOL_SIZE,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections,
		MHD_OPTION_CONNECTION_TIMEOUT, seconds, MHD_OPTION_STRICT_FOR_CLIENT, strict,
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
}

static int start_workers(struct server *s)
{
	unsigned count = (unsigned)s->options->threads;

	s->workers = calloc(count, sizeof(*s->workers));
	if (!s->workers)
		return -ENOMEM;
	while (s->worker_count < count) {
		struct worker *w = &s->workers[s->worker_count++];
		struct MHD_Daemon *daemon;
		int r = worker_init(w, s, &s->acceptor);

		if (r < 0)
			return r;
		daemon = daemon_start(s, w);
		if (!daemon)
			return -EIO;
		r = worker_start(w, daemon);
		if (r < 0)
			return r;
	}
	return 0;
}

int server_start(struct server *s)
{
	int r = follow_new((unsigned)s->options->threads, &s->follow);

	if (r < 0) {
		log_error("cannot start the thread that follows files: %s", strerror(-r));
		return r;
	}
	r = s->options->htpasswd ? hasher_new(&s->hasher) : 0;
	if (r < 0) {
		log_error("cannot start the thread that hashes passwords: %s", strerror(-r));
		return r;
	}
	log_note("serving %s, %s", s->options->root,
		s->live_device ? "live" : "not an rwwfs mount: as it is");
	r = start_workers(s);
	if (!r)
		r = acceptor_start(
			&s->acceptor, s->listeners, s->listener_count, s->workers, s->worker_count);
	if (r < 0) {
		log_error("cannot start the threads that answer: %s", strerror(-r));
		return r;
	}
	for (unsigned i = 0; i < s->listener_count; i++)
		log_note("listening on %s://%s/", s->tls ? "https" : "http",
			s->listeners[i].address);
	return s->metrics_listener.fd < 0 ? 0 : monitor_start(s);
}

/* -- stopping --------------------------------------------------------------------------------- */

/* Whoever comes now is refused, but a socket of the service manager goes on to take connections,
 * for whoever serves it next. */
static void stop_accepting(struct server *s)
{
	acceptor_stop(&s->acceptor);
	for (unsigned i = 0; i < s->listener_count; i++)
		(void)close(steal_fd(&s->listeners[i].fd)); /* nothing was written to it */
}

static void wait_for_clients(struct server *s, const atomic_bool *hurry)
{
	uint64_t until = clock_ms() + s->options->drain_timeout_ms;

	while (clients_count(&s->clients) && clock_ms() < until && !atomic_load(hurry)) {
		clients_reap(&s->clients, clock_ms(), true);
		usleep(10000);
	}
}

/* Everybody who is held must run again before the library may be stopped. The follow thread may
 * wait for a mount that does not answer; main.c knows when it is enough. */
static void wake_all(struct server *s)
{
	follow_stop(s->follow);
	while (follow_suspended(s->follow))
		usleep(10000);
}

void server_stop(struct server *s, const atomic_bool *hurry)
{
	unsigned left;

	notify("STOPPING=1");
	atomic_store(&s->draining, true);
	stop_accepting(s);
	wait_for_clients(s, hurry);
	left = clients_count(&s->clients);
	if (left)
		log_note("cutting %u connections", left);
	if (s->follow)
		wake_all(s);
	clients_cut(&s->clients);
	for (unsigned i = 0; i < s->worker_count; i++)
		worker_stop(&s->workers[i]);
	monitor_stop(s);
}

/* -- the rest --------------------------------------------------------------------------------- */

static void reload_files(struct server *s)
{
	struct auth *fresh, *old;

	if (s->tls && tls_load(s->options->cert, s->options->key) < 0)
		log_warn("the certificate stays as it was");
	if (auth_load(s->options, &fresh) < 0) {
		log_warn("credentials stay as they were");
	} else {
		pthread_rwlock_wrlock(&s->auth_lock);
		old = s->auth;
		s->auth = fresh;
		pthread_rwlock_unlock(&s->auth_lock);
		auth_free(old);
	}
}

void server_reload(struct server *s)
{
	int r;

	log_note("reloading");
	notify("RELOADING=1");
	(void)accesslog_reopen(&s->log); /* logged; the old one goes on */
	r = reopen_root(s);
	if (r < 0)
		log_warn("cannot serve %s afresh: %s, ignoring", s->options->root,
			r == -EMEDIUMTYPE ? "it is no mount any more" : strerror(-r));
	if (check_files(s->options) < 0)
		log_warn("certificate and credentials stay as they were");
	else
		reload_files(s);
	notify("READY=1");
}

/* What died may be a mount below the root. */
static bool root_answers(const struct server *s)
{
	struct statfs fs;

	return !fstatfs(s->root, &fs);
}

/* A mount that died is looked for until there is another; after a crowd has left, its memory goes
 * back to the system. */
void server_tidy(struct server *s)
{
	unsigned now = clients_count(&s->clients);

	monitor_reap(s);
	if (atomic_load(&s->root_lost)) {
		if (root_answers(s))
			atomic_store(&s->root_lost, false);
		else
			(void)reopen_root(s); /* until it can be */
	}
	if (s->crowd >= CROWD && now < s->crowd / 2) {
		(void)malloc_trim(0); /* whether there was anything */
		s->crowd = now;
	}
	if (now > s->crowd)
		s->crowd = now;
}

void server_gauges(struct server *s, struct metrics_gauges *ret)
{
	ret->connections = clients_count(&s->clients);
	ret->log_lines_dropped = atomic_load(&s->log.dropped);
	ret->hashing = hasher_count(s->hasher);
	follow_count(s->follow, &ret->held, &ret->followed);
}
