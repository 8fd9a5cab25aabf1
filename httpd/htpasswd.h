/* SPDX-License-Identifier: MIT */
/*
 * A password file as htpasswd(1) writes it: "USER:HASH" lines. Hashes are those of crypt(3)
 * (bcrypt, yescrypt, SHA-512 ...) and Apache's own "$apr1$". Built once, then read-only: any
 * thread. Errors are negative errno; what is wrong with the file is logged with its line.
 */
#ifndef HTTPD_HTPASSWD_H
#define HTTPD_HTPASSWD_H

struct htpasswd;

int htpasswd_load(const char *file, struct htpasswd **ret);
void htpasswd_free(struct htpasswd *h);

/* 1 right, 0 wrong; negative: nobody knows, as for want of memory. As slow as the hash. An unknown
 * user costs as much as a known one. */
int htpasswd_check(const struct htpasswd *h, const char *user, const char *password);

/* One line, its line end removed: 1 with *ret_user and *ret_hash pointing into it, 0 when it is
 * blank or a comment, -EINVAL. Changes line. */
int htpasswd_parse_line(char *line, const char **ret_user, const char **ret_hash);

#endif
