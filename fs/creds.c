/* SPDX-License-Identifier: MIT */
#include "fs/creds.h"

#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "fs/fs.h"

/* capset(2) on the calling thread: effective = permitted & ~without, inheritable kept. */
static void raise_caps(uint64_t without)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return;
	data[0].effective = data[0].permitted & ~(uint32_t)without;
	data[1].effective = data[1].permitted & ~(uint32_t)(without >> 32);
	if (syscall(SYS_capset, &head, data) < 0)
		log_warn("capset failed, ignoring");
}

void creds_take(fuse_req_t req, struct creds *ret)
{
	static __thread bool own_umask;
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (!own_umask) /* the umask belongs to the process until a thread parts with it */
		own_umask = unshare(CLONE_FS) == 0;
	(void)umask(ctx->umask);
	ret->changed = fs_of(req)->privileged && (ctx->uid != 0 || ctx->gid != 0);
	if (!ret->changed)
		return;
	(void)setfsgid(ctx->gid);
	(void)setfsuid(ctx->uid); /* takes the capabilities of the filesystem away */
	raise_caps(0);
}

void creds_give_back(struct creds *c)
{
	if (!c->changed)
		return;
	(void)setfsuid(0);
	(void)setfsgid(0);
}

void creds_drop_fsetid(fuse_req_t req, struct creds *ret)
{
	ret->changed = fs_of(req)->privileged;
	if (ret->changed)
		raise_caps(UINT64_C(1) << CAP_FSETID);
}

void creds_restore_fsetid(struct creds *c)
{
	if (c->changed)
		raise_caps(0);
}
