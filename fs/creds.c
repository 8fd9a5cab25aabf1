/* SPDX-License-Identifier: MIT */
#include "fs/creds.h"

#include <linux/capability.h>
#include <linux/dqblk_xfs.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/fs.h"

#define BIT(cap) (UINT64_C(1) << (cap))
/* What reaches blocks that are reserved for root, and past quotas; and what keeps set-id bits. */
#define NOT_FOR_USERS BIT(CAP_SYS_RESOURCE)
#define NOT_FOR_DATA  (NOT_FOR_USERS | BIT(CAP_FSETID))

static struct __user_cap_data_struct own_caps[2]; /* of every thread, effective aside */
static bool own_caps_known;
static pthread_once_t own_caps_once = PTHREAD_ONCE_INIT;

static void look_at_caps(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	own_caps_known = syscall(SYS_capget, &head, own_caps) == 0;
}

/* capset(2) on the calling thread: effective = permitted & ~without, inheritable kept. */
static void set_caps(uint64_t without)
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

/*
 * What the calling thread, with root's ids, does without. It stays like that: most requests are
 * like those before, and a change costs as much as a small write.
 */
static void restrain(uint64_t without)
{
	static __thread uint64_t lacks = UINT64_MAX; /* whatever the thread that started it lacks */

	if (lacks == without)
		return;
	lacks = without;
	set_caps(without);
}

bool creds_may_see_ends(void)
{
	pthread_once(&own_caps_once, look_at_caps);
	return !own_caps_known || own_caps[0].permitted & 1u << CAP_SYS_PTRACE;
}

/* setfsuid(2) takes the capabilities of the filesystem away, and gives them back for root. */
static void become(fuse_req_t req, uint64_t without, struct creds *c)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	c->uid = c->gid = true;
	(void)setfsgid(ctx->gid);
	(void)setfsuid(ctx->uid);
	set_caps(without);
}

/* Whether anything is to be changed for the caller at all. */
static bool begin(fuse_req_t req, struct creds *ret)
{
	*ret = (struct creds){0};
	if (!fs_of(req)->privileged)
		return false;
	restrain(fuse_req_ctx(req)->uid ? NOT_FOR_USERS : 0);
	return true;
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
	if (!begin(req, ret) || !fuse_req_ctx(req)->uid)
		return;
	ret->groups = take_groups(req);
	become(req, NOT_FOR_DATA, ret);
}

/*
 * Whether the store has no quotas, and more room than anybody fills before it is asked again: then
 * it does not matter who writes. To be asked and to act as somebody both cost part of a small
 * write. Only the root's filesystem is asked, so it is no answer where others lie in the store.
 */
static bool is_roomy(struct fs *fs)
{
	const int enforced =
		FS_QUOTA_UDQ_ENFD | FS_QUOTA_GDQ_ENFD | FS_QUOTA_PDQ_ENFD; /* quotactl(2) */
	const uint64_t room = UINT64_C(1) << 30, again_ms = 50;
	uint64_t now = clock_ms();
	struct fs_quota_stat quotas = {0};
	struct statfs sf;

	if (fs->inodes.several)
		return false;
	if (now < fs->roomy_until_ms)
		return true;
	if (fstatfs(fs->store_fd, &sf) < 0 || sf.f_bavail < room / (uint64_t)sf.f_bsize)
		return false;
	if (syscall(SYS_quotactl_fd, fs->store_fd, QCMD(Q_XGETQSTAT, USRQUOTA), 0, &quotas) == 0 &&
		quotas.qs_flags & enforced)
		return false;
	fs->roomy_until_ms = now + again_ms;
	return true;
}

void creds_take(fuse_req_t req, mode_t mode, struct creds *ret)
{
	static __thread bool own_umask;
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (!own_umask) /* the umask belongs to the process until a thread parts with it */
		own_umask = unshare(CLONE_FS) == 0;
	(void)umask(ctx->umask);
	*ret = (struct creds){0};
	if (!ctx->uid && !ctx->gid && !(mode & S_ISGID) && is_roomy(fs_of(req)))
		return; /* whatever root does without does not matter */
	if (begin(req, ret) && (ctx->uid || ctx->gid))
		become(req, ctx->uid ? NOT_FOR_USERS : 0, ret);
}

void creds_take_if_tight(fuse_req_t req, struct creds *ret)
{
	*ret = (struct creds){0};
	if (fs_of(req)->privileged && !is_roomy(fs_of(req)))
		creds_take(req, 0, ret);
}

void creds_own(const struct fs *fs)
{
	if (fs->privileged)
		restrain(0);
}

void creds_own_if_tight(struct fs *fs)
{
	if (fs->privileged && !is_roomy(fs))
		restrain(0);
}

void creds_take_for_bytes(fuse_req_t req, struct creds *ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	*ret = (struct creds){0};
	if (!fs_of(req)->privileged || is_roomy(fs_of(req)))
		return;
	ret->uid = begin(req, ret) && ctx->uid;
	if (ret->uid)
		(void)setfsuid(ctx->uid);
}

void creds_take_for_backing(fuse_req_t req, struct creds *ret)
{
	*ret = (struct creds){0};
	if (fuse_req_ctx(req)->uid)
		creds_take_for_data(req, ret);
	else if (fs_of(req)->privileged)
		restrain(NOT_FOR_DATA);
}

void creds_give_back(struct creds *c)
{
	if (c->uid)
		(void)setfsuid(0);
	if (c->gid)
		(void)setfsgid(0);
	if (c->groups)
		(void)syscall(SYS_setgroups, 0, NULL); /* the daemon uses none */
}
