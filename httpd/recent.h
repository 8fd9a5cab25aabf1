/* SPDX-License-Identifier: MIT */
/*
 * The pieces of growing files that were read last, kept for all followers who want the same next.
 * A few for the whole server. Any thread; nobody waits for another: while a piece is read or sent
 * it stays as it is, and who would need it otherwise reads for himself.
 */
#ifndef HTTPD_RECENT_H
#define HTTPD_RECENT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define RECENT_SIZE  262144 /* of a piece, at most */
#define RECENT_COUNT 16

struct recent_piece {
	pthread_rwlock_t lock; /* of what follows */
	uint64_t version, at;
	size_t len;
	char *data; /* NULL before its first use */
};

struct recent {
	struct recent_piece pieces[RECENT_COUNT];
};

void recent_init(struct recent *r);
void recent_destroy(struct recent *r);

/* size bytes at offset of the file fd, whose live_view has this version. NULL when there are fewer,
 * or they cannot be read. Valid until recent_done(), which must follow in the same thread before
 * the next call. */
const char *recent_read(struct recent *r, int fd, uint64_t version, uint64_t offset, size_t size,
	struct recent_piece **ret);
void recent_done(struct recent_piece *p);

#endif
