/* SPDX-License-Identifier: MIT */
/* Apache's variant of MD5 crypt, which htpasswd(1) writes by default and crypt(3) lacks. Pure. */
#ifndef HTTPD_APR1_H
#define HTTPD_APR1_H

#include <stdbool.h>

#define APR1_SIZE 40 /* "$apr1$" salt(8) "$" 22 characters, NUL */

bool apr1_is_hash(const char *hash);

/* Hashes password with the salt of hash; false when hash is not an apr1 hash. */
bool apr1_hash(const char *password, const char *hash, char ret[static APR1_SIZE]);

#endif
