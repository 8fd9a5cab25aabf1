/* SPDX-License-Identifier: MIT */
/*
 * A password file as htpasswd(1) writes it: "USER:HASH" lines. Hashes are those of crypt(3)
 * (bcrypt, yescrypt, SHA-512 ...) and Apache's own "$apr1$". Built once, then read-only: any
 * thread. Errors are negative errno; what is wrong with the file is logged with its line.
 */
#ifndef HTTPD_HTPASSWD_H
#define HTTPD_HTPASSWD_H

#include <stdbool.h>

struct htpasswd;

int htpasswd_load(const char *file, struct htpasswd **ret);
void htpasswd_free(struct htpasswd *h);

/* What the password of user is to be hashed to; h's. For an unknown one, whose password never fits,
 * another's, so that it costs as much; NULL when there are no users. */
const char *htpasswd_hash(const struct htpasswd *h, const char *user, bool *ret_known);
/* Whether that takes a fraction of a millisecond. */
bool htpasswd_is_fast(const char *hash, const char *password);
/* 1 right, 0 wrong; negative: nobody knows, as for want of memory. As slow as the hash. */
int htpasswd_fits(const char *hash, const char *password);

/* One line, its line end removed: 1 with *ret_user and *ret_hash pointing into it, 0 when it is
 * blank or a comment, -EINVAL. Changes line. */
int htpasswd_parse_line(char *line, const char **ret_user, const char **ret_hash);

#endif
