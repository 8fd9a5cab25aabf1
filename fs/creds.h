/* SPDX-License-Identifier: MIT */
/*
 * Acting as the caller: what a request creates belongs to whoever asked, with the umask applied as
 * the store's default ACLs want it, while access was already checked by the kernel
 * (default_permissions), so the right to override it is kept. Per thread; the calls come in pairs.
 */
#ifndef FS_CREDS_H
#define FS_CREDS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct creds {
	bool changed;
};

void creds_take(fuse_req_t req, struct creds *ret);
void creds_give_back(struct creds *c);

/*
 * Without CAP_FSETID, so that the store clears set-id bits when data changes, as it would for the
 * caller. Only meaningful for a privileged daemon.
 */
void creds_drop_fsetid(fuse_req_t req, struct creds *ret);
void creds_restore_fsetid(struct creds *c);

#endif
