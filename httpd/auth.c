/* SPDX-License-Identifier: MIT */
#include "httpd/auth.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/htpasswd.h"

#define REMEMBERED 256
#define DIGEST     32

struct token {
	struct token *next;
	unsigned char digest[DIGEST];
};

/* The latest credentials, the oldest of which make room. */
struct memory {
	unsigned char digests[REMEMBERED][DIGEST];
	unsigned next;
};

struct auth {
	struct htpasswd *htpasswd;
	struct token *tokens;
	unsigned char key[DIGEST]; /* random: digests mean nothing outside this process */
	pthread_mutex_t lock;
	struct memory accepted, refused; /* lock */
};

static bool digest(const struct auth *a, const char *text, unsigned char *ret)
{
	return gnutls_hmac_fast(
		       GNUTLS_MAC_SHA256, a->key, sizeof(a->key), text, strlen(text), ret) >= 0;
}

static int token_add(struct auth *a, const char *text)
{
	struct token *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->next = a->tokens;
	a->tokens = t;
	return digest(a, text, t->digest) ? 0 : -EIO;
}

static int tokens_load(struct auth *a, const char *file)
{
	autofree char *line = NULL;
	size_t size = 0;
	FILE *f = fopen(file, "re");
	int r = 0;

	if (!f) {
		r = -errno;
		log_error("cannot read the token file %s: %s", file, strerror(-r));
		return r;
	}
	while (!r && getline(&line, &size, f) >= 0) {
		char *word = line + strspn(line, " \t");

		word[strcspn(word, " \t\r\n")] = '\0';
		if (*word && *word != '#')
			r = token_add(a, word);
	}
	if (!r && ferror(f)) {
		r = -errno;
		log_error("cannot read the token file %s: %s", file, strerror(-r));
	}
	(void)fclose(f); /* only read from */
	return r;
}

int auth_load(const struct options *o, struct auth **ret)
{
	struct auth *a;
	int r = 0;

	if (!o->htpasswd && !o->tokens) {
		*ret = NULL;
		return 0;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	pthread_mutex_init(&a->lock, NULL);
	if (gnutls_rnd(GNUTLS_RND_KEY, a->key, sizeof(a->key)) < 0)
		r = -EIO;
	if (!r && o->htpasswd)
		r = htpasswd_load(o->htpasswd, &a->htpasswd);
	if (!r && o->tokens)
		r = tokens_load(a, o->tokens);
	if (r < 0) {
		auth_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	htpasswd_free(a->htpasswd);
	for (struct token *t = a->tokens, *next; t; t = next) {
		next = t->next;
		free(t);
	}
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static bool is_remembered(struct auth *a, const struct memory *m, const unsigned char *d)
{
	SCOPED_LOCK(&a->lock);
	for (unsigned i = 0; i < REMEMBERED; i++)
		if (!gnutls_memcmp(m->digests[i], d, DIGEST))
			return true;
	return false;
}

static void remember(struct auth *a, struct memory *m, const unsigned char *d)
{
	SCOPED_LOCK(&a->lock);
	memcpy(m->digests[m->next++ % REMEMBERED], d, DIGEST);
}

static enum auth_result token_check(const struct auth *a, const char *text)
{
	unsigned char d[DIGEST];
	bool known = false;

	if (!digest(a, text, d))
		return AUTH_BUSY;
	for (const struct token *t = a->tokens; t; t = t->next)
		known |= !gnutls_memcmp(t->digest, d, DIGEST);
	return known ? AUTH_OK : AUTH_WRONG;
}

/* "USER:PASSWORD" out of base64, NULL when it is malformed. */
static char *basic_decode(const char *text)
{
	gnutls_datum_t in = {.data = (unsigned char *)(uintptr_t)text, .size = strlen(text)};
	gnutls_datum_t out = {0};
	char *plain = NULL;

	if (gnutls_base64_decode2(&in, &out) < 0)
		return NULL;
	if (!memchr(out.data, '\0', out.size))
		plain = strndup((const char *)out.data, out.size);
	gnutls_free(out.data);
	return plain;
}

static enum auth_result password_check(struct auth *a, struct hasher *h,
	struct hasher_client *client, const unsigned char *d, const char *user,
	const char *password)
{
	const char *hash;
	bool known;
	int right;

	if (is_remembered(a, &a->accepted, d))
		return AUTH_OK;
	if (is_remembered(a, &a->refused, d))
		return AUTH_WRONG;
	hash = htpasswd_hash(a->htpasswd, user, &known);
	if (!hash)
		return AUTH_WRONG;
	right = htpasswd_is_fast(hash, password) ? htpasswd_fits(hash, password)
						 : hasher_check(h, client, hash, password);
	if (right == -EINPROGRESS)
		return AUTH_LATER;
	if (right < 0)
		return AUTH_BUSY;
	remember(a, right && known ? &a->accepted : &a->refused, d);
	return right && known ? AUTH_OK : AUTH_WRONG;
}

static enum auth_result basic_check(struct auth *a, struct hasher *h, struct hasher_client *client,
	char *plain, char **ret_user)
{
	unsigned char d[DIGEST];
	char *colon = strchr(plain, ':');
	enum auth_result result;

	if (!colon || !a->htpasswd)
		return AUTH_WRONG;
	if (!digest(a, plain, d))
		return AUTH_BUSY;
	*colon = '\0';
	result = password_check(a, h, client, d, plain, colon + 1);
	if (result == AUTH_OK)
		*ret_user = strdup(plain);
	return result;
}

enum auth_result auth_check(struct auth *a, struct hasher *h, struct hasher_client *client,
	const char *header, char **ret_user)
{
	autofree char *plain = NULL;

	if (!header)
		return AUTH_MISSING;
	if (!strncasecmp(header, "Bearer ", 7))
		return token_check(a, header + 7 + strspn(header + 7, " "));
	if (strncasecmp(header, "Basic ", 6))
		return AUTH_WRONG;
	plain = basic_decode(header + 6 + strspn(header + 6, " "));
	return plain ? basic_check(a, h, client, plain, ret_user) : AUTH_WRONG;
}
