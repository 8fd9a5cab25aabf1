/* SPDX-License-Identifier: MIT */
#include "httpd/recent.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

void recent_init(struct recent *r)
{
	for (int i = 0; i < RECENT_COUNT; i++) {
		r->pieces[i] = (struct recent_piece){0};
		pthread_rwlock_init(&r->pieces[i].lock, NULL);
	}
}

void recent_destroy(struct recent *r)
{
	for (int i = 0; i < RECENT_COUNT; i++) {
		pthread_rwlock_destroy(&r->pieces[i].lock);
		free(r->pieces[i].data);
	}
}

static void fill_locked(
	struct recent_piece *p, int fd, uint64_t version, uint64_t offset, size_t size)
{
	ssize_t n;

	if (!p->data)
		p->data = malloc(RECENT_SIZE);
	n = p->data ? pread(fd, p->data, size, (off_t)offset) : 0;
	p->version = version;
	p->at = offset;
	p->len = n > 0 ? (size_t)n : 0;
}

static bool holds_locked(
	const struct recent_piece *p, uint64_t version, uint64_t offset, size_t size)
{
	return p->version == version && offset >= p->at && offset + size <= p->at + p->len;
}

const char *recent_read(struct recent *r, int fd, uint64_t version, uint64_t offset, size_t size,
	struct recent_piece **ret)
{
	static _Thread_local char own[RECENT_SIZE];
	struct recent_piece *p =
		&r->pieces[((version >> 32) + offset / RECENT_SIZE) % RECENT_COUNT];

	for (int i = 0; i < 2 && !pthread_rwlock_tryrdlock(&p->lock); i++) {
		if (holds_locked(p, version, offset, size)) {
			*ret = p;
			return p->data + (offset - p->at);
		}
		pthread_rwlock_unlock(&p->lock);
		if (i || pthread_rwlock_trywrlock(&p->lock))
			break;
		fill_locked(p, fd, version, offset, size);
		pthread_rwlock_unlock(&p->lock);
	}
	*ret = NULL;
	return pread(fd, own, size, (off_t)offset) == (ssize_t)size ? own : NULL;
}

void recent_done(struct recent_piece *p)
{
	if (p)
		pthread_rwlock_unlock(&p->lock);
}
