/* SPDX-License-Identifier: MIT */
#include "httpd/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "httpd/clock.h"
#include "httpd/page.h"
#include "httpd/reader.h"
#include "httpd/reply.h"
#include "httpd/root.h"
#include "httpd/server.h"

#define TURN_MS 5

/* RFC 9110 section 12.4.2, in thousandths. item is at the type's end; none, and none that makes
 * sense, is 1. */
static unsigned weight_of(const char *item)
{
	unsigned weight = 0, scale = 1000;

	item += strspn(item, " \t");
	while (*item == ';') {
		item += 1 + strspn(item + 1, " \t");
		if (!strncasecmp(item, "q=", 2))
			break;
		item += strcspn(item, ";,");
	}
	if (strncasecmp(item, "q=0", 3))
		return 1000;
	for (item += item[3] == '.' ? 4 : 3; *item >= '0' && *item <= '9'; item++) {
		scale /= 10;
		weight += scale * (unsigned)(*item - '0');
	}
	return weight;
}

/* 0 for a type that accept does not name. */
static unsigned weight_in(const char *accept, const char *type)
{
	size_t len = strlen(type);

	for (const char *p = accept; *p; p += *p == ',') {
		p += strspn(p, " \t");
		if (!strncasecmp(p, type, len) && strchr(" \t;,", p[len])) /* or at its end */
			return weight_of(p + len);
		p += strcspn(p, ",");
	}
	return 0;
}

/* Only who names it gets JSON: browsers accept anything. */
bool listing_wants_json(const struct request *rq)
{
	autofree char *accept = request_header(rq, MHD_HTTP_HEADER_ACCEPT);

	return accept && weight_in(accept, "application/json") > weight_in(accept, "text/html");
}

static bool is_shown(const struct server *s, const char *name)
{
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	return name[0] != '.' || s->options->dotfiles;
}

/* Of this server, for now: nothing that it could say of a file. */
static bool is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* What cannot be asked is shown as it lies. */
static int file_progress(const struct server *s, int directory, const char *name,
	const struct stat *st, struct progress *ret)
{
	uint64_t size = (uint64_t)st->st_size;
	autoclose int fd = -1;
	int r = 0;

	if (st->st_dev == s->live_device)
		return state_or_plain_at(directory, name, size, ret);
	if (st->st_dev != s->plain_device) {
		fd = openat(directory, name, ROOT_READ | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -errno : resource_may_grow(s, fd, st);
	}
	return r > 0 ? state_or_plain(fd, size, ret) : state_of_error(r, size, ret);
}

/* One that is about to grow, or to end, and cannot be opened before: as one that is being cut. */
static int look_only(const struct server *s, const char *name, struct progress *p, struct stat *ret)
{
	autoclose int fd = root_open(s->root, name, O_PATH, 0);

	if (fd < 0)
		return fd;
	if (fstat(fd, ret))
		return -errno;
	*p = (struct progress){.state = STATE_GROWING, .edge = (uint64_t)ret->st_size};
	return 0;
}

/* What a symlink leads to: one that leads out of the root is a dead link, as it is when it is
 * asked for. */
static int follow_link(const struct request *rq, struct listing_entry *e, struct stat *ret)
{
	autofree char *path = NULL;
	const char *name;
	struct resource target;
	int r;

	if (asprintf(&path, "%s/%s", rq->name, e->name) < 0)
		return -ENOMEM;
	name = path + (*rq->name ? 0 : 1);
	r = resource_open(rq->server, name, 0, &target);
	if (r == -EAGAIN)
		return look_only(rq->server, name, &e->progress, ret);
	if (r < 0)
		return r;
	*ret = target.st;
	r = state_or_plain(target.fd, (uint64_t)target.st.st_size, &e->progress);
	resource_close(&target);
	return r;
}

/* 1, or 0 for what is neither file nor directory, or gone; -errno when that cannot be told now. */
static int entry_fill(const struct request *rq, int directory, struct listing_entry *e)
{
	struct stat st;
	int r = 0;

	if (fstatat(directory, e->name, &st, AT_SYMLINK_NOFOLLOW))
		r = -errno;
	else if (S_ISREG(st.st_mode))
		r = file_progress(rq->server, directory, e->name, &st, &e->progress);
	else if (S_ISLNK(st.st_mode))
		r = follow_link(rq, e, &st);
	if (r < 0)
		return is_shortage(r) ? r : 0;
	e->directory = S_ISDIR(st.st_mode);
	e->modified = st.st_mtim;
	return S_ISDIR(st.st_mode) || S_ISREG(st.st_mode);
}

static int entry_add(struct listing *l, const struct listing_entry *e)
{
	struct listing_entry *entries;

	if (!(l->count & (l->count + 1)) || !l->count) { /* full at 0, 1, 3, 7 ... */
		entries = realloc(l->entries, (l->count * 2 + 1) * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		l->entries = entries;
	}
	l->entries[l->count++] = *e;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct listing_entry *x = a, *y = b;

	if (x->directory != y->directory)
		return x->directory ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* 1: there is more. */
static int gather(const struct request *rq, struct listing *l, uint64_t until)
{
	struct dirent *d;

	while (errno = 0, (d = readdir(l->dir))) {
		struct listing_entry e = {0};
		int r;

		if (!is_shown(rq->server, d->d_name))
			continue;
		e.name = strdup(d->d_name);
		if (!e.name)
			return -ENOMEM;
		r = entry_fill(rq, dirfd(l->dir), &e);
		if (r <= 0 || (r = entry_add(l, &e)) < 0)
			free(e.name);
		if (r < 0)
			return r; /* a page without it would look whole */
		if (clock_ms() >= until)
			return 1;
	}
	return -errno;
}

struct tm listing_time(const struct listing_entry *e)
{
	struct tm tm;

	if (!gmtime_r(&e->modified.tv_sec, &tm))
		(void)gmtime_r(&(time_t){0}, &tm); /* which has one */
	return tm;
}

void listing_free(struct listing *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->entries[i].name);
	free(l->entries);
	text_free(&l->text);
	if (l->dir)
		(void)closedir(l->dir); /* only read from */
	free(l);
}

static int listing_begin(struct request *rq)
{
	struct listing *l = calloc(1, sizeof(*l));

	rq->listing = l;
	if (!l)
		return -ENOMEM;
	l->dir = fdopendir(rq->resource.fd);
	if (!l->dir)
		return -errno;
	(void)steal_fd(&rq->resource.fd);
	return 0;
}

/* Sorting is the one thing that is not divided: 25 ms for 100,000 names. */
static void all_is_gathered(struct listing *l)
{
	(void)closedir(steal_ptr(&l->dir)); /* only read from */
	if (l->count)
		qsort(l->entries, l->count, sizeof(*l->entries), compare);
}

/* For a turn. 1: there is more. */
static int listing_work(
	const struct request *rq, struct listing *l, const struct listing_form *form)
{
	uint64_t until = clock_ms() + TURN_MS;

	if (l->dir) {
		int r = gather(rq, l, until);

		if (r)
			return r;
		all_is_gathered(l);
		form->begin(rq, l, &l->text);
	}
	while (l->written < l->count) {
		if (clock_ms() >= until)
			return 1;
		form->entry(rq, &l->entries[l->written], &l->text);
		free(steal_ptr(&l->entries[l->written++].name));
	}
	form->end(&l->text);
	return 0;
}

/* 1 when held, which is then to come again. */
static int listing_write(struct request *rq, const struct listing_form *form)
{
	int r = rq->listing ? 0 : listing_begin(rq);

	while (!r && (r = listing_work(rq, rq->listing, form)) > 0)
		r = reader_held(rq, follow_delay(&rq->waiter, 1));
	return r;
}

enum MHD_Result listing_answer(struct request *rq)
{
	bool json = listing_wants_json(rq);
	struct text t;
	struct MHD_Response *response;
	int r = listing_write(rq, json ? &listing_json : &listing_html);

	if (r == 1)
		return MHD_YES;
	if (r == -ECANCELED)
		return MHD_NO;
	if (r < 0)
		return reply_errno(rq, r);
	t = rq->listing->text;
	rq->listing->text = (struct text){0};
	listing_free(steal_ptr(&rq->listing));
	rq->body_bytes = t.len;
	if (json)
		response = reply_text_response(&t, "application/json; charset=utf-8");
	else
		response = page_response(&t);
	reply_header(response, "Cache-Control", "no-cache");
	return reply_send(rq, MHD_HTTP_OK, response);
}
