/* SPDX-License-Identifier: MIT */
/* What libfuse has since 3.17, apart from passthrough; compat-fallback.c for older ones. */
#ifndef FS_COMPAT_H
#define FS_COMPAT_H

#include <fuse_lowlevel.h>

/* Capabilities to ask for, FUSE_CAP_*. */
unsigned compat_caps(void);
/* Requests to answer. */
void compat_add_ops(struct fuse_lowlevel_ops *ops);

#endif
