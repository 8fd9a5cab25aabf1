/* SPDX-License-Identifier: MIT */
/* The mounts of this namespace, from /proc/self/mounts. Paths are absolute and resolved. */
#ifndef FS_MOUNTS_H
#define FS_MOUNTS_H

#include <stdbool.h>

/* Whether path is the mountpoint of an rwwfs. */
bool mounts_is_rwwfs(const char *path);
/* Whether path lies on an rwwfs, or is its mountpoint. */
bool mounts_is_on_rwwfs(const char *path);
/* Whether path is below dir. */
bool mounts_is_below(const char *path, const char *dir);

#endif
