/* SPDX-License-Identifier: MIT */
/*
 * Files being uploaded. On an rwwfs mount the file appears under its final name at once, with the
 * size that Content-Length declares, and is read while it arrives; a broken upload leaves it
 * aborted. On a plain directory nobody could tell a half file from a whole one: there it
 * appears when it is complete. In both cases it is a new file: readers of an old one of that name
 * keep that. Of several to one name at a time, the one that began last has it in the end: ffmpeg
 * sends the next playlist without waiting for an answer to the last. Any thread; errors are
 * negative errno.
 */
#ifndef HTTPD_UPLOAD_H
#define HTTPD_UPLOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

struct request;
struct server;
struct upload;

struct uploads {
	pthread_mutex_t lock; /* who gives a name, or takes one away, has it from the look before */
	struct list all;      /* of struct upload, lock */
};

void uploads_init(struct uploads *u);
void uploads_destroy(struct uploads *u);

#define UPLOAD_SIZE_UNKNOWN UINT64_MAX

/* What must be so at the moment when the file gets its name, or it does not: look returns 0,
 * -ECANCELED, or why it cannot tell. It is asked then, under a lock, so that of several uploads
 * that exclude each other one succeeds. */
struct upload_condition {
	int (*look)(struct request *request);
	struct request *request;
};

/* condition: NULL for none; else it lives as long as the upload. */
int upload_new(struct server *s, const char *name, uint64_t size,
	const struct upload_condition *condition, struct upload **ret);
int upload_write(struct upload *up, const char *data, size_t size);
/* All has arrived. Whether or not it succeeds, up is gone. *ret_created: there was no file of that
 * name, nor one that overtook it. */
int upload_finish(struct upload *up, bool *ret_created);
/* It broke: the file is aborted (or never appeared). up is gone. */
void upload_abort(struct upload *up, const char *reason);

#endif
