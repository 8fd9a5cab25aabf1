/* SPDX-License-Identifier: MIT */
/*
 * Passthrough: the kernel reads and writes the store file itself (fs/fuse/passthrough.c, Linux 6.9;
 * libfuse 3.17). passthrough-fallback.c stands in where libfuse is older.
 */
#ifndef FS_PASSTHROUGH_H
#define FS_PASSTHROUGH_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct fs;

/* During INIT: asks for it where it can be had. NULL if so; otherwise why not, for people. */
const char *passthrough_negotiate(struct fs *fs, struct fuse_conn_info *conn);
/* Gives the kernel fd's file. An id > 0 for the handles of its inode; 0 when it is refused. */
int passthrough_register(struct fs *fs, fuse_req_t req, int fd);
void passthrough_unregister(struct fs *fs, int id);
/* Marks fi as a handle that uses id. */
void passthrough_set(struct fuse_file_info *fi, int id);

#endif
