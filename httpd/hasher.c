/* SPDX-License-Identifier: MIT */
/*
 * A worker that hashed a password itself would keep all its other clients waiting. So the request
 * asks here and is held (follow.c: the only module that suspends and resumes), and this thread
 * calls its waiter when it has the answer. follow_call() only leaves a note for the follow thread,
 * so it may be made under the lock, under which hasher_forget() takes the waiter away: a request
 * that ends meanwhile, for its client left or the server stops, is never called. What is being
 * hashed then belongs to this thread; what still waits is never hashed.
 *
 * Addresses take turns: the nth question of one comes after the nth of each other that waited, so
 * that who guesses passwords delays others by one hash. When too many wait, the last in turn is
 * refused, which is not the one of him who asks for once. Of several alike, as of a player with
 * many connections, one is hashed.
 *
 * Locks: the server's auth_lock, then ours, then none. hasher_free() comes after the workers, and
 * before the follow thread ends.
 */
#include "httpd/hasher.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "httpd/htpasswd.h"

#define WAITING_MAX 64

struct hashing {
	struct list entry;     /* of the queue, while it waits; lock */
	struct waiter *waiter; /* NULL: forgotten; lock */
	int right;             /* -EINPROGRESS until it is known; lock */
	uint64_t turn;
	char address[INET6_ADDRSTRLEN];
	char *hash, *password;
};

struct hasher {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct list queue; /* of struct hashing, by turn; lock */
	unsigned waiting;  /* lock */
	uint64_t turn;     /* of the latest that was begun; lock */
	bool busy;         /* lock */
	bool ending;       /* lock */
};

static void hashing_free(struct hashing *q)
{
	if (!q)
		return;
	free(q->hash);
	free(q->password);
	free(q);
}

static struct hashing *hashing_new(
	const struct hasher_client *client, const char *hash, const char *password)
{
	struct hashing *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->waiter = client->waiter;
	q->right = -EINPROGRESS;
	snprintf(q->address, sizeof(q->address), "%s", client->address);
	q->hash = strdup(hash);
	q->password = strdup(password);
	if (q->hash && q->password)
		return q;
	hashing_free(q);
	return NULL;
}

static bool is_alike(const struct hashing *q, const char *hash, const char *password)
{
	return !strcmp(q->hash, hash) && !strcmp(q->password, password);
}

static void leave_locked(struct hasher *h, struct hashing *q)
{
	list_del(&q->entry);
	h->waiting--;
}

static void answer_locked(struct hashing *q, int right)
{
	q->right = right;
	follow_call(q->waiter);
}

static void join_locked(struct hasher *h, struct hashing *q)
{
	struct list *before = &h->queue;

	q->turn = h->turn + 1;
	list_for_each (it, &h->queue) {
		const struct hashing *other = list_entry(it, struct hashing, entry);

		if (other->turn >= q->turn && !strcmp(other->address, q->address))
			q->turn = other->turn + 1;
	}
	while (before->prev != &h->queue &&
		list_entry(before->prev, struct hashing, entry)->turn > q->turn)
		before = before->prev;
	list_add_tail(before, &q->entry);
	if (h->waiting++ < WAITING_MAX)
		return;
	q = list_entry(h->queue.prev, struct hashing, entry);
	leave_locked(h, q);
	answer_locked(q, -EBUSY);
}

/* The lock is let go of meanwhile. */
static void hash_locked(struct hasher *h, struct hashing *q)
{
	int right;

	leave_locked(h, q);
	h->turn = q->turn;
	h->busy = true;
	pthread_mutex_unlock(&h->lock);
	right = htpasswd_fits(q->hash, q->password);
	pthread_mutex_lock(&h->lock);
	h->busy = false;
	list_for_each_safe (it, &h->queue) {
		struct hashing *other = list_entry(it, struct hashing, entry);

		if (!is_alike(other, q->hash, q->password))
			continue;
		leave_locked(h, other);
		answer_locked(other, right);
	}
	if (q->waiter)
		answer_locked(q, right);
	else
		hashing_free(q);
}

static void *hasher_run(void *data)
{
	struct hasher *h = data;

	pthread_mutex_lock(&h->lock);
	while (!h->ending)
		if (list_is_empty(&h->queue))
			pthread_cond_wait(&h->asked, &h->lock);
		else
			hash_locked(h, list_entry(h->queue.next, struct hashing, entry));
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

int hasher_check(
	struct hasher *h, struct hasher_client *client, const char *hash, const char *password)
{
	struct hashing *q = client->hashing;

	if (q && !is_alike(q, hash, password)) { /* the password file changed */
		hasher_forget(h, client);
		q = NULL;
	}
	SCOPED_LOCK(&h->lock);
	if (q)
		return q->right;
	q = hashing_new(client, hash, password);
	if (!q)
		return -ENOMEM;
	client->hashing = q;
	join_locked(h, q);
	pthread_cond_signal(&h->asked);
	return -EINPROGRESS;
}

void hasher_forget(struct hasher *h, struct hasher_client *client)
{
	struct hashing *q = steal_ptr(&client->hashing);
	bool hashes;

	if (!q)
		return;
	pthread_mutex_lock(&h->lock);
	hashes = q->right == -EINPROGRESS && !list_is_linked(&q->entry);
	q->waiter = NULL;
	if (list_is_linked(&q->entry))
		leave_locked(h, q);
	pthread_mutex_unlock(&h->lock);
	if (!hashes)
		hashing_free(q);
}

unsigned hasher_count(struct hasher *h)
{
	if (!h)
		return 0;
	SCOPED_LOCK(&h->lock);
	return h->waiting + h->busy;
}

int hasher_new(struct hasher **ret)
{
	struct hasher *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->asked, NULL);
	list_init(&h->queue);
	r = -pthread_create(&h->thread, NULL, hasher_run, h);
	if (r < 0)
		free(h);
	else
		*ret = h;
	return r;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->ending = true;
	pthread_cond_signal(&h->asked);
	pthread_mutex_unlock(&h->lock);
	(void)pthread_join(h->thread, NULL); /* it was created */
	pthread_cond_destroy(&h->asked);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
