/* SPDX-License-Identifier: MIT */
#include "httpd/tls.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"

#define CHAIN_MAX 16

struct pair {
	struct pair *before; /* a handshake may still be using it; freed at the end */
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned length;
	gnutls_privkey_t key;
};

static _Atomic(struct pair *) current;

static int file_read(const char *file, gnutls_datum_t *ret)
{
	int r = gnutls_load_file(file, ret);

	if (r < 0)
		log_error("cannot read %s: %s", file, errno ? strerror(errno) : gnutls_strerror(r));
	return r < 0 ? -EIO : 0;
}

static void pair_free(struct pair *p)
{
	for (unsigned i = 0; i < p->length; i++)
		gnutls_pcert_deinit(&p->chain[i]);
	if (p->key)
		gnutls_privkey_deinit(p->key);
	free(p);
}

/* Whether gnutls takes the two for a pair. */
static int pair_check(const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
	gnutls_certificate_credentials_t c;
	int r = gnutls_certificate_allocate_credentials(&c);

	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_key_mem(c, cert, key, GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(c);
	return r;
}

static int pair_fill(struct pair *p, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
	unsigned length = CHAIN_MAX;
	int r = pair_check(cert, key);

	if (r >= 0)
		r = gnutls_pcert_list_import_x509_raw(p->chain, &length, cert, GNUTLS_X509_FMT_PEM,
			GNUTLS_X509_CRT_LIST_SORT | GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
	if (r < 0)
		return r;
	p->length = length;
	r = gnutls_privkey_init(&p->key);
	return r < 0 ? r
		     : gnutls_privkey_import_x509_raw(p->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

static int pair_new(const char *cert_file, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
	struct pair *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	r = pair_fill(p, cert, key);
	if (r < 0) {
		log_error("cannot use the certificate %s with its key: %s", cert_file,
			gnutls_strerror(r));
		pair_free(p);
		return -EINVAL;
	}
	p->before = atomic_load(&current);
	atomic_store(&current, p);
	return 0;
}

int tls_load(const char *cert_file, const char *key_file)
{
	gnutls_datum_t cert = {0}, key = {0};
	int r = file_read(cert_file, &cert);

	if (!r)
		r = file_read(key_file, &key);
	if (!r)
		r = pair_new(cert_file, &cert, &key);
	gnutls_free(cert.data);
	if (key.data)
		gnutls_memset(key.data, 0, key.size);
	gnutls_free(key.data);
	return r;
}

int tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
	gnutls_pcert_st **certs, unsigned *certs_length, gnutls_ocsp_data_st **ocsp,
	unsigned *ocsp_length, gnutls_privkey_t *key, unsigned *flags)
{
	struct pair *p = atomic_load(&current);

	*certs = p->chain;
	*certs_length = p->length;
	*ocsp = NULL;
	*ocsp_length = 0;
	*key = p->key;
	*flags = 0; /* they stay ours */
	return 0;
}

bool tls_send(const struct tls_peer *peer, const char *data, size_t size)
{
	return peer->session && gnutls_record_send(peer->session, data, size) == (ssize_t)size;
}

static int finished(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
	const gnutls_datum_t *message)
{
	struct tls_peer *peer = gnutls_session_get_ptr(session);

	peer->ready |= incoming;
	return 0;
}

/* gnutls leaves it to such a function to send an alert, and goodbye is one. */
static int alert(gnutls_session_t session, gnutls_record_encryption_level_t encryption,
	gnutls_alert_level_t level, gnutls_alert_description_t what)
{
	struct tls_peer *peer = gnutls_session_get_ptr(session);
	int r;

	if (what == GNUTLS_A_CLOSE_NOTIFY) {
		if (peer->ready)
			peer->goodbye(peer->context);
		peer->session = NULL;
	}
	gnutls_alert_set_read_function(session, NULL);
	r = gnutls_alert_send(session, level, what);
	if (peer->session)
		gnutls_alert_set_read_function(session, alert);
	return r;
}

void tls_peer_init(struct tls_peer *peer, gnutls_session_t session, void (*goodbye)(void *context),
	void *context)
{
	*peer = (struct tls_peer){session, goodbye, context, false};
	gnutls_session_set_ptr(session, peer);
	gnutls_handshake_set_hook_function(
		session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST, finished);
	gnutls_alert_set_read_function(session, alert);
}

static uint64_t records(const struct tls_peer *peer, bool incoming)
{
	unsigned char number[8]; /* of the next record; the handshake of TLS 1.2 ends with one */
	uint64_t n;

	if (!peer->session ||
		gnutls_record_get_state(peer->session, incoming, NULL, NULL, NULL, number) < 0)
		return 0;
	memcpy(&n, number, sizeof(n));
	return be64toh(n) - (gnutls_protocol_get_version(peer->session) < GNUTLS_TLS1_3);
}

uint64_t tls_heard(const struct tls_peer *peer)
{
	return records(peer, true);
}

uint64_t tls_said(const struct tls_peer *peer)
{
	return records(peer, false);
}

bool tls_at_end(struct tls_peer *peer)
{
	char byte;

	return peer->session && gnutls_record_recv(peer->session, &byte, sizeof(byte)) == 0;
}

void tls_free(void)
{
	for (struct pair *p = atomic_exchange(&current, NULL), *before; p; p = before) {
		before = p->before;
		pair_free(p);
	}
}
