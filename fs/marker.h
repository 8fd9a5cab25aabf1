/* SPDX-License-Identifier: MIT */
/*
 * Crash memory: an extended attribute of the store file that is there from before the first byte
 * can be written until the file is complete. Whoever finds it on a file that is not open knows that
 * the file never was completed. Any thread; no locks; negative errno.
 *
 * Text: STATE SP DECLARED SP REASON; STATE "growing" or "aborted", DECLARED digits or "-".
 */
#ifndef FS_MARKER_H
#define FS_MARKER_H

#include <stdbool.h>
#include <stdint.h>

#define MARKER_NAME       "user.rww.marker"
#define MARKER_REASON_MAX 201 /* with the NUL at its end */

struct marker {
	bool aborted;      /* or growing */
	uint64_t declared; /* RULE_NONE if none */
	char reason[MARKER_REASON_MAX];
};

/* 0; -ENODATA: there is none; -EOPNOTSUPP: the store has no such attributes. */
int marker_read(int fd, struct marker *ret);
/* By directory and name, for a file that is not open; never follows a symlink. */
int marker_read_at(int dir_fd, const char *name, struct marker *ret);
int marker_write(int fd, const struct marker *m);
/* 0 as well when there is none. */
int marker_remove(int fd);

#endif
