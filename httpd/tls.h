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

/* Reads the PEM files for all handshakes from now on. -errno, logged: those before stay. */
int tls_load(const char *cert_file, const char *key_file);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK2. */
gnutls_certificate_retrieve_function3 tls_retrieve;

/* All of it at once, or false. */
bool tls_send(gnutls_session_t session, const char *data, size_t size);

/* After the last handshake. */
void tls_free(void);

#endif
