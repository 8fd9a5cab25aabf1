/* SPDX-License-Identifier: MIT */
#include "httpd/follow_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/root.h"

/* -- slots ---------------------------------------------------------------------------------- */

static int slots_grow_locked(struct follow *f, int fd)
{
	int count = fd + 64;
	struct slot *slots;

	if (fd < f->slot_count)
		return 0;
	slots = realloc(f->slots, (size_t)count * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + f->slot_count, 0, (size_t)(count - f->slot_count) * sizeof(*slots));
	f->slots = slots;
	f->slot_count = count;
	return 0;
}

static int slot_control_locked(struct follow *f, int what, int fd, uint32_t events)
{
	struct epoll_event event = {
		.events = events, .data.u64 = (uint64_t)f->slots[fd].serial << 32 | (uint32_t)fd};

	return epoll_ctl(f->epoll, what, fd, &event) ? -errno : 0;
}

int slot_add_locked(struct follow *f, int fd, enum slot_kind kind, uint32_t events, void *what)
{
	int r = slots_grow_locked(f, fd);

	if (r < 0)
		return r;
	f->slots[fd] = (struct slot){kind, ++f->serial, what};
	r = slot_control_locked(f, EPOLL_CTL_ADD, fd, events);
	if (r < 0)
		f->slots[fd].kind = SLOT_FREE;
	return r;
}

void slot_ask_locked(struct follow *f, int fd, uint32_t events)
{
	(void)slot_control_locked(f, EPOLL_CTL_MOD, fd, events); /* it was added, and is open */
}

void slot_remove_locked(struct follow *f, int fd)
{
	if (fd >= f->slot_count || f->slots[fd].kind == SLOT_FREE)
		return;
	f->slots[fd].kind = SLOT_FREE;
	(void)epoll_ctl(f->epoll, EPOLL_CTL_DEL, fd, NULL); /* it was added, and is still open */
}

struct slot *slot_of_event_locked(struct follow *f, uint64_t data)
{
	int fd = (int)(uint32_t)data;

	if (fd >= f->slot_count || f->slots[fd].kind == SLOT_FREE ||
		f->slots[fd].serial != data >> 32)
		return NULL;
	return &f->slots[fd];
}

/* -- lives ---------------------------------------------------------------------------------- */

void live_unwatch_locked(struct follow *f, struct live *live)
{
	if (!live->listed)
		return;
	live->listed = false;
	list_del(&live->entry);
	slot_remove_locked(f, live->fd);
	if (live->watch >= 0)
		(void)inotify_rm_watch(f->inotify, live->watch); /* gone with its inode: as good */
	live->watch = -1;
}

void live_put(struct follow *f, struct live *live)
{
	if (!live)
		return;
	{
		SCOPED_LOCK(&f->table_lock);
		if (--live->refs)
			return;
		live_unwatch_locked(f, live);
		f->live_count--;
	}
	live_free(live);
}

/* The follow thread may know of its end, or that it started over, and be about to let go of it. */
static bool live_still_changes(struct live *live)
{
	struct live_view view;

	live_view(live, &view);
	return view.state == STATE_GROWING && !view.truncated;
}

static struct live *live_find_locked(struct follow *f, const struct stat *st)
{
	list_for_each (it, &f->lives) {
		struct live *live = list_entry(it, struct live, entry);

		if (live->ino != st->st_ino || live->dev != st->st_dev)
			continue;
		if (!live_still_changes(live)) {
			live_unwatch_locked(f, live);
			return NULL;
		}
		live->refs++;
		return live;
	}
	return NULL;
}

struct live *live_of_watch_locked(struct follow *f, int watch)
{
	list_for_each (it, &f->lives) {
		struct live *live = list_entry(it, struct live, entry);

		if (live->watch == watch) {
			live->refs++;
			return live;
		}
	}
	return NULL;
}

static int watch_add(struct follow *f, int fd, bool directory)
{
	char path[32];
	int watch;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	watch = inotify_add_watch(f->inotify, path,
		directory ? IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF : IN_MODIFY | IN_ATTRIB);
	if (watch < 0)
		log_warn("cannot watch a followed file: %s; asking once a second instead",
			strerror(errno));
	return watch;
}

/* Lists live unless another request was faster: then that one's is returned. The watch comes
 * before the question, and both before anybody else can see the live. */
static struct live *live_publish(struct follow *f, struct live *live, const struct stat *st)
{
	SCOPED_LOCK(&f->table_lock);
	struct live *other = live_find_locked(f, st);

	if (other)
		return other;
	live->refs = 1;
	live->view.version = (uint64_t)++f->serial << 32;
	live->listed = true;
	f->live_count++;
	list_add_tail(&f->lives, &live->entry);
	live->watch = watch_add(f, live->fd, live->directory);
	live_ask(live);
	if (live->view.state != STATE_GROWING)
		live_unwatch_locked(f, live);
	else if (!live->directory)
		/* Ends only: growth comes by inotify, which costs the daemon nothing. A file that
		 * cannot be polled is asked once a second. */
		(void)slot_add_locked(f, live->fd, SLOT_LIVE, EPOLLET, live);
	return live;
}

int follow_live(struct follow *f, int fd, const struct stat *st, struct live **ret)
{
	bool directory = S_ISDIR(st->st_mode);
	struct live *live, *published;
	int own;

	pthread_mutex_lock(&f->table_lock);
	live = live_find_locked(f, st);
	pthread_mutex_unlock(&f->table_lock);
	if (live) {
		*ret = live;
		return 0;
	}
	own = root_reopen(fd, directory ? O_PATH | O_DIRECTORY : ROOT_READ);
	if (own < 0)
		return own;
	live = live_new(own, st->st_dev, st->st_ino, directory);
	if (!live)
		return -ENOMEM;
	published = live_publish(f, live, st);
	if (published != live)
		live_free(live);
	*ret = published;
	return 0;
}

bool live_is_own(const struct follow *f, const struct live *live)
{
	return live == f->timer || live == f->calls;
}

struct live **lives_get(struct follow *f, unsigned *ret_count)
{
	SCOPED_LOCK(&f->table_lock);
	struct live **all = calloc(f->live_count + 2, sizeof(*all)); /* and our own */

	*ret_count = 0;
	if (!all)
		return NULL;
	list_for_each (it, &f->lives) {
		all[*ret_count] = list_entry(it, struct live, entry);
		all[(*ret_count)++]->refs++;
	}
	return all;
}
