/* SPDX-License-Identifier: MIT */
/*
 * fusermount3, the program that libfuse runs where it cannot mount or unmount itself: what it can
 * do, found out beforehand for the sake of one clear message. Found in PATH, as libfuse finds it.
 */
#ifndef FS_FUSERMOUNT_H
#define FS_FUSERMOUNT_H

#include <stdbool.h>

bool fusermount_can_run(void);

/* Whether it knows --auto-unmount, with which libfuse calls it since 3.15. Not Debian 12's. */
bool fusermount_knows_auto_unmount(void);

#endif
