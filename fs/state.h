/* SPDX-License-Identifier: MIT */
/*
 * A file's state as extended attributes of the mounted file, user.rww.*: state, reason, size
 * (declared), edge, writers, readers (held reads). Text without a newline, numbers in decimal.
 * While it is open, progress: state, edge, declared size or "-", and how often bytes that it had
 * told of were taken away.
 */
#ifndef FS_STATE_H
#define FS_STATE_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/marker.h"
#include "fs/rule.h"

struct file;
struct fs;
struct inode;

bool state_is_ours(const char *name);
const char *state_name(enum file_state state);

/* Answer requests for an attribute of ours. */
void state_get(fuse_req_t req, struct inode *i, const char *name, size_t size);
void state_set(fuse_req_t req, struct inode *i, const char *name, const char *value, size_t size);

/* The first byte of a file of this size that is not there yet. Negative errno. */
int state_edge(struct fs *fs, struct file *f, uint64_t size, uint64_t *ret);

#endif
