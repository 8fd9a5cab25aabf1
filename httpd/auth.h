/* SPDX-License-Identifier: MIT */
/*
 * Who may do what: Basic credentials against a password file, bearer tokens against a list.
 * Password hashes are slow on purpose, so they are made elsewhere (hasher.h), and the latest
 * credentials are remembered, as a keyed digest: a player with an old password that comes again and
 * again costs nothing. Any thread; one lock inside.
 */
#ifndef HTTPD_AUTH_H
#define HTTPD_AUTH_H

#include <stdbool.h>

#include "httpd/hasher.h"
#include "httpd/options.h"

struct auth;

/* Loads what the options name. *ret is NULL when they name nothing. -errno, logged. */
int auth_load(const struct options *o, struct auth **ret);
void auth_free(struct auth *a);

enum auth_result {
	AUTH_OK,
	AUTH_MISSING,
	AUTH_WRONG,
	AUTH_LATER, /* to be asked again when the client's waiter is called */
	AUTH_BUSY,  /* nobody knows for now: too many wait for a hash, or there is no memory */
};

/* header: the value of Authorization, NULL when absent. *ret_user is allocated, and may be NULL
 * (a token, or out of memory). h: only NULL without a password file. */
enum auth_result auth_check(struct auth *a, struct hasher *h, struct hasher_client *client,
	const char *header, char **ret_user);

#endif
