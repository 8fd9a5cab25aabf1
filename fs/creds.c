/* SPDX-License-Identifier: MIT */
#include "fs/creds.h"

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "fs/fs.h"

/* What keeps set-id bits, and what reaches blocks that are reserved for root. */
#define NOT_FOR_DATA (UINT64_C(1) << CAP_FSETID | UINT64_C(1) << CAP_SYS_RESOURCE)

static struct __user_cap_data_struct own_caps[2]; /* of every thread, effective aside */
static bool own_caps_known;
static pthread_once_t own_caps_once = PTHREAD_ONCE_INIT;

static void look_at_caps(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	own_caps_known = syscall(SYS_capget, &head, own_caps) == 0;
}

/* capset(2) on the calling thread: effective = permitted & ~without, inheritable kept. */
static void raise_caps(uint64_t without)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	pthread_once(&own_caps_once, look_at_caps);
	if (!own_caps_known)
		return;
	for (int i = 0; i < 2; i++) {
		data[i] = own_caps[i];
		data[i].effective = data[i].permitted & ~(uint32_t)(without >> 32 * i);
	}
	if (syscall(SYS_capset, &head, data) < 0)
		log_warn("capset failed, ignoring");
}

bool creds_may_see_ends(void)
{
	pthread_once(&own_caps_once, look_at_caps);
	return !own_caps_known || own_caps[0].permitted & 1u << CAP_SYS_PTRACE;
}

static void become(fuse_req_t req, uint64_t without, struct creds *c)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	c->ids = true;
	(void)setfsgid(ctx->gid);
	(void)setfsuid(ctx->uid); /* takes the capabilities of the filesystem away */
	raise_caps(without);
}

void creds_take(fuse_req_t req, struct creds *ret)
{
	static __thread bool own_umask;
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (!own_umask) /* the umask belongs to the process until a thread parts with it */
		own_umask = unshare(CLONE_FS) == 0;
	(void)umask(ctx->umask);
	*ret = (struct creds){.changed = fs_of(req)->privileged && (ctx->uid || ctx->gid)};
	if (ret->changed)
		become(req, 0, ret);
}

/* setgroups(2) of this thread alone, as the C library would not have it. */
static bool take_groups(fuse_req_t req)
{
	gid_t groups[256];
	int n = fuse_req_getgroups(req, 256, groups);

	return n >= 0 && syscall(SYS_setgroups, n < 256 ? n : 256, groups) == 0;
}

void creds_take_for_data(fuse_req_t req, struct creds *ret)
{
	*ret = (struct creds){.changed = fs_of(req)->privileged && fuse_req_ctx(req)->uid};
	if (!ret->changed)
		return;
	ret->groups = take_groups(req);
	become(req, NOT_FOR_DATA, ret);
}

void creds_take_for_backing(fuse_req_t req, struct creds *ret)
{
	creds_take_for_data(req, ret);
	if (ret->changed || !fs_of(req)->privileged)
		return;
	ret->changed = true;
	raise_caps(NOT_FOR_DATA);
}

void creds_give_back(struct creds *c)
{
	if (!c->changed)
		return;
	if (c->ids) {
		(void)setfsuid(0);
		(void)setfsgid(0);
	}
	raise_caps(0);
	if (c->groups)
		(void)syscall(SYS_setgroups, 0, NULL); /* the daemon uses none */
}
