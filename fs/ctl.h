/* SPDX-License-Identifier: MIT */
/*
 * rwwctl: looks at and steers the files of a mount from outside, through user.rww.* and
 * .rww/status; knows nothing of FUSE. One thread. Functions return negative errno after one
 * message.
 *
 *   ctl.c        the commands
 *   ctl-mount.c  from a path to its mount and the status document
 *   ctl-show.c   the table for people
 */
#ifndef FS_CTL_H
#define FS_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* The mountpoint that path lies on; owned by the caller. */
int ctl_mount_of(const char *path, char **ret);
/* What errno means where a mount answers. */
const char *ctl_strerror(int e);
/* The status document of a mount, parsed; owned by the caller. */
int ctl_status(const char *mountpoint, json_t **ret);
/* The same as text, as it is, to out. */
int ctl_copy_status(const char *mountpoint, FILE *out);

/* The table. bars: with progress bars, for a terminal of this many columns. */
void ctl_show(json_t *status, FILE *out, bool bars, int columns);

#endif
