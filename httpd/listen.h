/* SPDX-License-Identifier: MIT */
/* Listening sockets: from ADDRESS:PORT, or inherited from systemd. -errno, logged. */
#ifndef HTTPD_LISTEN_H
#define HTTPD_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>

#include "httpd/options.h"

#define LISTEN_MAX 64
_Static_assert(LISTEN_MAX >= OPTIONS_LISTEN_MAX, "room for those of the options");

struct listener {
	int fd;
	bool loopback;
	bool inherited;                      /* from the service manager, which keeps it open */
	char address[INET6_ADDRSTRLEN + 10]; /* as in a URL, port included */
};

/* On each address of a name, while *count is below max. */
int listen_on(const char *address, struct listener *all, unsigned max, unsigned *count);
/* An already listening socket. */
int listen_inherited(int fd, struct listener *ret);

#endif
