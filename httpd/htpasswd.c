/* SPDX-License-Identifier: MIT */
#include "httpd/htpasswd.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "httpd/apr1.h"

#define FAST_MAX 64 /* of MD5 with a thousand rounds, each over all of the password */

struct entry {
	struct entry *next;
	char *user, *hash;
};

/* In the order of the file: of two lines for one user the first counts, as in Apache and nginx. */
struct htpasswd {
	struct entry *first, **end;
};

int htpasswd_parse_line(char *line, const char **ret_user, const char **ret_hash)
{
	char *colon;

	if (!*line || *line == '#')
		return 0;
	colon = strchr(line, ':');
	if (!colon || colon == line || !colon[1])
		return -EINVAL;
	*colon = '\0';
	colon[1 + strcspn(colon + 1, ":")] = '\0'; /* further fields are comments, as in Apache */
	*ret_user = line;
	*ret_hash = colon + 1;
	return colon[1] ? 1 : -EINVAL;
}

static bool hash_is_known(const char *hash)
{
	return apr1_is_hash(hash) ||
	       (hash[0] == '$' && crypt_checksalt(hash) != CRYPT_SALT_INVALID);
}

static int entry_add(struct htpasswd *h, const char *user, const char *hash)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->user = strdup(user);
	e->hash = strdup(hash);
	*h->end = e;
	h->end = &e->next;
	return e->user && e->hash ? 0 : -ENOMEM;
}

static int line_add(struct htpasswd *h, char *line, const char *file, unsigned number)
{
	const char *user, *hash;
	int r;

	line[strcspn(line, "\r\n")] = '\0';
	r = htpasswd_parse_line(line, &user, &hash);
	if (r < 0)
		log_error("%s:%u: expected USER:HASH", file, number);
	if (r <= 0)
		return r;
	if (!hash_is_known(hash)) {
		log_error("%s:%u: the password of '%s' is hashed in a way that is not supported: "
			  "write it with htpasswd -B",
			file, number, user);
		return -EINVAL;
	}
	return entry_add(h, user, hash);
}

static int read_lines(struct htpasswd *h, FILE *f, const char *file)
{
	autofree char *line = NULL;
	size_t size = 0;
	unsigned number = 0;

	while (getline(&line, &size, f) >= 0) {
		int r = line_add(h, line, file, ++number);

		if (r < 0)
			return r;
	}
	if (!ferror(f))
		return 0;
	log_error("cannot read the password file %s: %s", file, strerror(errno));
	return -EIO;
}

int htpasswd_load(const char *file, struct htpasswd **ret)
{
	struct htpasswd *h;
	FILE *f = fopen(file, "re");
	int r;

	if (!f) {
		r = -errno;
		log_error("cannot read the password file %s: %s", file, strerror(-r));
		return r;
	}
	h = calloc(1, sizeof(*h));
	if (h)
		h->end = &h->first;
	r = h ? read_lines(h, f, file) : -ENOMEM;
	(void)fclose(f); /* only read from */
	if (r < 0) {
		htpasswd_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void htpasswd_free(struct htpasswd *h)
{
	if (!h)
		return;
	for (struct entry *e = h->first, *next; e; e = next) {
		next = e->next;
		free(e->user);
		free(e->hash);
		free(e);
	}
	free(h);
}

static bool equal_in_constant_time(const char *a, const char *b)
{
	size_t n = strlen(a);
	unsigned char differ = 0;

	if (strlen(b) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		differ |= (unsigned char)(a[i] ^ b[i]);
	return !differ;
}

bool htpasswd_is_fast(const char *hash, const char *password)
{
	return (apr1_is_hash(hash) || !strncmp(hash, "$1$", 3)) && strlen(password) <= FAST_MAX;
}

int htpasswd_fits(const char *hash, const char *password)
{
	autofree struct crypt_data *data = NULL;
	char apr1[APR1_SIZE];
	const char *result = NULL;

	if (apr1_is_hash(hash))
		return apr1_hash(password, hash, apr1) ? equal_in_constant_time(apr1, hash) : -EIO;
	data = calloc(1, sizeof(*data)); /* 32 KiB: too much for the stack of a worker */
	if (data)
		result = crypt_r(password, hash, data);
	if (result && result[0] != '*')
		return equal_in_constant_time(result, hash);
	if (errno == ERANGE) /* longer than any that was hashed */
		return 0;
	log_warn("cannot hash a password: %s", strerror(errno)); /* no memory is EINVAL for some */
	return -EIO;
}

const char *htpasswd_hash(const struct htpasswd *h, const char *user, bool *ret_known)
{
	const struct entry *e = h->first;

	while (e && strcmp(e->user, user))
		e = e->next;
	*ret_known = e != NULL;
	if (!e)
		e = h->first;
	return e ? e->hash : NULL;
}
