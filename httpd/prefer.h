/* SPDX-License-Identifier: MIT */
/* The Prefer header (RFC 7240), of which only "wait" matters here. Pure, any thread. */
#ifndef HTTPD_PREFER_H
#define HTTPD_PREFER_H

#include <stdbool.h>
#include <stdint.h>

/* True when value asks to wait; the first "wait" counts (RFC 7240 section 2), capped at a day.
 * A malformed one is ignored as the RFC demands. */
bool prefer_wait(const char *value, uint64_t *ret_seconds);

#endif
