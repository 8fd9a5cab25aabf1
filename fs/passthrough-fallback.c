/* SPDX-License-Identifier: MIT */
/* For a libfuse that has no passthrough. */
#include "fs/fs.h"
#include "fs/passthrough.h"

const char *passthrough_negotiate(struct fs *fs, struct fuse_conn_info *conn)
{
	return fs->opt.passthrough == PASSTHROUGH_OFF
		       ? "asked for"
		       : "built with a libfuse that has none: 3.17 or later is needed";
}

int passthrough_register(struct fs *fs, fuse_req_t req, int fd)
{
	return 0;
}

void passthrough_unregister(struct fs *fs, int id)
{
}

void passthrough_set(struct fuse_file_info *fi, int id)
{
}
