/* SPDX-License-Identifier: MIT */
#include "fs/compat.h"

unsigned compat_caps(void)
{
	return 0;
}

void compat_add_ops(struct fuse_lowlevel_ops *ops)
{
}
