/* SPDX-License-Identifier: MIT */
/* The service manager (systemd): readiness, stopping, inherited sockets. Without it, nothing. */
#ifndef HTTPD_NOTIFY_H
#define HTTPD_NOTIFY_H

/* state: as for sd_notify(3). */
void notify(const char *state);

/* Number of inherited sockets, the first is *ret_first; they are taken once. -errno. */
int notify_sockets(int *ret_first);

#endif
