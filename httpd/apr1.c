/* SPDX-License-Identifier: MIT */
/*
 * The algorithm is Poul-Henning Kamp's MD5 crypt with another magic string: a digest of password,
 * magic and salt, stirred a thousand times, written in the alphabet of crypt(3).
 */
#include "httpd/apr1.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

#define MAGIC  "$apr1$"
#define SALT   8
#define DIGEST 16
#define ROUNDS 1000

bool apr1_is_hash(const char *hash)
{
	return !strncmp(hash, MAGIC, strlen(MAGIC));
}

/* The alternate sum: password, salt, password. */
static bool alternate(
	const char *password, size_t len, const char *salt, size_t salt_len, unsigned char *sum)
{
	gnutls_hash_hd_t md5;

	if (gnutls_hash_init(&md5, GNUTLS_DIG_MD5) < 0)
		return false;
	gnutls_hash(md5, password, len);
	gnutls_hash(md5, salt, salt_len);
	gnutls_hash(md5, password, len);
	gnutls_hash_deinit(md5, sum);
	return true;
}

static bool first_sum(
	const char *password, size_t len, const char *salt, size_t salt_len, unsigned char *sum)
{
	gnutls_hash_hd_t md5;

	if (!alternate(password, len, salt, salt_len, sum) ||
		gnutls_hash_init(&md5, GNUTLS_DIG_MD5) < 0)
		return false;
	gnutls_hash(md5, password, len);
	gnutls_hash(md5, MAGIC, strlen(MAGIC));
	gnutls_hash(md5, salt, salt_len);
	for (size_t left = len; left; left -= left < DIGEST ? left : DIGEST)
		gnutls_hash(md5, sum, left < DIGEST ? left : DIGEST);
	for (size_t bits = len; bits; bits >>= 1)
		gnutls_hash(md5, bits & 1 ? "" : password, 1);
	gnutls_hash_deinit(md5, sum);
	return true;
}

static bool stir(unsigned round, const char *password, size_t len, const char *salt,
	size_t salt_len, unsigned char *sum)
{
	gnutls_hash_hd_t md5;

	if (gnutls_hash_init(&md5, GNUTLS_DIG_MD5) < 0)
		return false;
	gnutls_hash(md5, round & 1 ? (const void *)password : sum, round & 1 ? len : DIGEST);
	if (round % 3)
		gnutls_hash(md5, salt, salt_len);
	if (round % 7)
		gnutls_hash(md5, password, len);
	gnutls_hash(md5, round & 1 ? sum : (const void *)password, round & 1 ? DIGEST : len);
	gnutls_hash_deinit(md5, sum);
	return true;
}

static char *write_64(char *out, unsigned long value, int count)
{
	static const char alphabet[] =
		"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

	for (; count; count--, value >>= 6)
		*out++ = alphabet[value & 63];
	return out;
}

static void write_sum(char *out, const unsigned char *sum)
{
	static const unsigned char order[5][3] = {
		{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}};

	for (int i = 0; i < 5; i++)
		out = write_64(out,
			(unsigned long)sum[order[i][0]] << 16 |
				(unsigned long)sum[order[i][1]] << 8 | sum[order[i][2]],
			4);
	out = write_64(out, sum[11], 2);
	*out = '\0';
}

bool apr1_hash(const char *password, const char *hash, char ret[static APR1_SIZE])
{
	const char *salt = hash + strlen(MAGIC);
	size_t len = strlen(password), salt_len;
	unsigned char sum[DIGEST];
	int head;

	if (!apr1_is_hash(hash))
		return false;
	salt_len = strcspn(salt, "$");
	if (salt_len > SALT)
		salt_len = SALT;
	if (!first_sum(password, len, salt, salt_len, sum))
		return false;
	for (unsigned round = 0; round < ROUNDS; round++)
		if (!stir(round, password, len, salt, salt_len, sum))
			return false;
	head = snprintf(ret, APR1_SIZE, MAGIC "%.*s$", (int)salt_len, salt);
	write_sum(ret + head, sum);
	return true;
}
