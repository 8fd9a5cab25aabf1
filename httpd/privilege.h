/* SPDX-License-Identifier: MIT */
/* Giving up root, for good. -errno, logged. Before the first thread. */
#ifndef HTTPD_PRIVILEGE_H
#define HTTPD_PRIVILEGE_H

/* user, group: names or numbers, NULL to keep. */
int privilege_drop(const char *user, const char *group);

#endif
