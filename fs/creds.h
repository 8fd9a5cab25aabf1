/* SPDX-License-Identifier: MIT */
/*
 * Acting as the caller. What a request creates belongs to whoever asked, with the umask applied as
 * the store's default ACLs want it, while access was already checked by the kernel
 * (default_permissions), so the right to override it is kept. Per thread; take and give back come
 * in pairs. Between them a thread of root is left without what the last request was to do without.
 * A daemon that is not root acts as itself.
 */
#ifndef FS_CREDS_H
#define FS_CREDS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct fs;

struct creds { /* what is to be given back */
	bool uid, gid, groups;
};

/* For making what has this mode: not past quotas, nor from what is reserved for root. */
void creds_take(fuse_req_t req, mode_t mode, struct creds *ret);
/* For what may want a block and belongs to nobody new: names, attributes, other owners. */
void creds_take_if_tight(fuse_req_t req, struct creds *ret);
/*
 * For changing data or ACLs: the store then clears set-id bits as it would for the caller, with his
 * supplementary groups, without CAP_FSETID, and within his quota. Nothing changes for root.
 */
void creds_take_for_data(fuse_req_t req, struct creds *ret);
/*
 * The same for everything that will ever be written through what is registered meanwhile, so
 * without CAP_FSETID for root as well.
 */
void creds_take_for_backing(fuse_req_t req, struct creds *ret);
/* For bytes of a file without set-id bits: quotas and reserved blocks, where they matter now. */
void creds_take_for_bytes(fuse_req_t req, struct creds *ret);
void creds_give_back(struct creds *c);
/*
 * What the daemon does on its own account: no quota stops it, and set-id bits stay (CAP_FSETID is
 * asked for by chmod(2) and chown(2) as well). Nothing is to be given back.
 */
void creds_own(const struct fs *fs);
/* The same where only quotas matter. */
void creds_own_if_tight(struct fs *fs);

/* Whether /proc/PID/stat tells us the exit status of any process: proc_pid_stat(5). */
bool creds_may_see_ends(void);

#endif
