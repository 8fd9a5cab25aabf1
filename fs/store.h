/* SPDX-License-Identifier: MIT */
/* The store and the mountpoint before anything is mounted: what can be wrong with them. */
#ifndef FS_STORE_H
#define FS_STORE_H

#include "fs/options.h"

/*
 * Checks both, and opens and locks the store, so that no second daemon serves it. The lock goes
 * with the descriptor. Negative errno after one message.
 */
int store_open(const struct options *o, int *ret_fd);

#endif
