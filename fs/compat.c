/* SPDX-License-Identifier: MIT */
#include "fs/compat.h"

#include "fs/fs.h"

unsigned compat_caps(void)
{
	/* Without it every first write to a file asks for its security.capability. */
	return FUSE_CAP_HANDLE_KILLPRIV_V2;
}

void compat_add_ops(struct fuse_lowlevel_ops *ops)
{
	ops->tmpfile = open_tmpfile;
}
