/* SPDX-License-Identifier: MIT */
/*
 * The certificate chain and key that TLS handshakes are made with. One pair for the process, since
 * gnutls passes nothing of ours to its callback. tls_load() is for main's thread; handshakes come
 * from any.
 */
#ifndef HTTPD_TLS_H
#define HTTPD_TLS_H

#include <gnutls/abstract.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the PEM files for all handshakes from now on. -errno, logged: those before stay. */
int tls_load(const char *cert_file, const char *key_file);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK2. */
gnutls_certificate_retrieve_function3 tls_retrieve;

/* One connection; its worker's. */
struct tls_peer {
	gnutls_session_t session;       /* the library's; NULL once it has said goodbye */
	void (*goodbye)(void *context); /* before it does: something can still be sent */
	void *context;
	bool ready; /* the handshake was made */
};

/* Before the handshake; without one, and when a connection broke, nobody says goodbye. peer stays
 * where it is, as the session's pointer, which the library (up to 1.0.1) has for pre-shared keys
 * only. */
void tls_peer_init(struct tls_peer *peer, gnutls_session_t session, void (*goodbye)(void *context),
	void *context);

/* These without a session: nothing. All of it at once, or false. */
bool tls_send(const struct tls_peer *peer, const char *data, size_t size);

/* Records with data that were read since the handshake; the client's goodbye counts as one. */
uint64_t tls_heard(const struct tls_peer *peer);

/* Records with data that were sent since the handshake. */
uint64_t tls_said(const struct tls_peer *peer);

/* Whether it has said goodbye; what came before that is lost. */
bool tls_at_end(struct tls_peer *peer);

/* After the last handshake. */
void tls_free(void);

#endif
