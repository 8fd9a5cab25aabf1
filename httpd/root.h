/* SPDX-License-Identifier: MIT */
/*
 * The directory that is served, as one descriptor. Every name is resolved beneath it by the
 * kernel (openat2(2) with RESOLVE_BENEATH): no "..", absolute symlink, magic link or race
 * leads out. Names are relative, "" is the root. Any thread.
 * Errors are negative errno; -EXDEV means that the name would have left the root.
 */
#ifndef HTTPD_ROOT_H
#define HTTPD_ROOT_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/types.h>

/* Flags to read a file: a mount holds no such reader, whatever the file promises (rwwfs(1)), and
 * does not let him wait for what its store does for a writer: -EAGAIN. */
#define ROOT_READ (O_RDONLY | O_NONBLOCK | O_SYNC | O_NOCTTY)

/* O_CLOEXEC is implied. A descriptor, or negative errno; with O_NONBLOCK -EAGAIN, too, when only
 * the name was moved about. */
int root_open(int root, const char *name, int flags, mode_t mode);

/* Another open of what fd (of any kind, O_PATH included) refers to, with its own flags. */
int root_reopen(int fd, int flags);

/* The directory that holds name, as O_PATH; its missing parts are made when make is set. */
int root_open_parent(int root, const char *name, bool make);

#endif
