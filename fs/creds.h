/* SPDX-License-Identifier: MIT */
/*
 * Acting as the caller. What a request creates belongs to whoever asked, with the umask applied as
 * the store's default ACLs want it, while access was already checked by the kernel
 * (default_permissions), so the right to override it is kept. Per thread; take and give back come
 * in pairs. A daemon that is not root acts as itself.
 */
#ifndef FS_CREDS_H
#define FS_CREDS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct creds {
	bool changed;
	bool ids;    /* not the capabilities alone */
	bool groups; /* the supplementary groups were changed, too */
};

/* For making files. */
void creds_take(fuse_req_t req, struct creds *ret);
/*
 * For changing data or ACLs: the store then clears set-id bits as it would for the caller, with his
 * supplementary groups and without CAP_FSETID. Nothing changes for root.
 */
void creds_take_for_data(fuse_req_t req, struct creds *ret);
/*
 * The same for everything that will ever be written through what is registered meanwhile, so
 * without CAP_FSETID for root as well.
 */
void creds_take_for_backing(fuse_req_t req, struct creds *ret);
void creds_give_back(struct creds *c);

/* Whether /proc/PID/stat tells us the exit status of any process: proc_pid_stat(5). */
bool creds_may_see_ends(void);

#endif
