/* SPDX-License-Identifier: MIT */
/*
 * Where passwords are hashed that take long: in one thread, while the request that asks is held
 * (hasher.c). A struct hashing is one request's question; it belongs to the request until
 * hasher_forget(), which must come before waiter_done(). Any thread; one lock inside.
 */
#ifndef HTTPD_HASHER_H
#define HTTPD_HASHER_H

#include "httpd/follow.h"

struct hasher;
struct hashing;

/* Who asks: its waiter is called (follow_call()) when there is an answer, and its address has its
 * turn among others. */
struct hasher_client {
	struct waiter *waiter;
	const char *address;
	struct hashing *hashing; /* NULL: none yet */
};

/* -errno. */
int hasher_new(struct hasher **ret);
/* After the last request; takes as long as the hash that is being made. h may be NULL. */
void hasher_free(struct hasher *h);

/* As htpasswd_fits(), or -EINPROGRESS: to be asked again when the client's waiter is called;
 * -EBUSY: too many wait. */
int hasher_check(
	struct hasher *h, struct hasher_client *client, const char *hash, const char *password);
void hasher_forget(struct hasher *h, struct hasher_client *client);
/* Questions that have no answer yet. h may be NULL. */
unsigned hasher_count(struct hasher *h);

#endif
