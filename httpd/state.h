/* SPDX-License-Identifier: MIT */
/*
 * What the mount says of a file: the extended attributes user.rww.* (DESIGN section 4), read and
 * set through an open descriptor (not O_PATH). Any thread; each call is a round trip to the
 * filesystem's daemon. Sizes and edges are bytes. Errors are negative errno.
 */
#ifndef HTTPD_STATE_H
#define HTTPD_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum state {
	STATE_PLAIN, /* not on an rwwfs mount */
	STATE_GROWING,
	STATE_COMPLETE,
	STATE_ABORTED,
};

/* 1 when fd is on a mount that has these attributes, 0 when not, or -errno: one that does not
 * answer is no plain filesystem, where half a file would count as whole. */
int state_is_known(int fd);

/* Of a file that is open on a mount, all at one moment. */
struct progress {
	enum state state;
	uint64_t edge;
	bool declared;
	uint64_t size; /* when declared */
	uint64_t cuts; /* another number than before: bytes before the edge were taken away */
	struct timespec changed; /* ctime */
	struct timespec written; /* mtime, but as it would be without touch(1) and the like */
	bool settling;           /* the edge may move within milliseconds without an event */
};

/* -EAGAIN while it is being cut, which takes its time on some disks. */
int state_progress(int fd, struct progress *ret);

/* The same, but then it is growing; of a file that has no state, or none for us: STATE_PLAIN.
 * Either way st_size is its edge, or that is 0 when st_size is only declared. */
int state_or_plain(int fd, uint64_t st_size, struct progress *ret);
/* The same of a name in a directory, which need not be opened for it; no symlink is followed. */
int state_or_plain_at(int directory, const char *name, uint64_t st_size, struct progress *ret);
/* The same of one of which this (negative errno, or 0 without states) came when it was to be asked.
 */
int state_of_error(int error, uint64_t st_size, struct progress *ret);

int state_declare_size(int fd, uint64_t size);
int state_abort(int fd, const char *reason); /* which user.rww.reason tells */

const char *state_name(enum state state);

#endif
