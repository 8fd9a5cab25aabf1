/* SPDX-License-Identifier: MIT */
#include "fs/compat.h"

#include "fs/fs.h"

unsigned compat_caps(void)
{
	/* A file is asked for its security.capability at the first write, and not again. */
	return FUSE_CAP_HANDLE_KILLPRIV_V2;
}

void compat_add_ops(struct fuse_lowlevel_ops *ops)
{
	ops->tmpfile = open_tmpfile;
}
