/* SPDX-License-Identifier: MIT */
#include "httpd/privilege.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parse.h"

struct identity {
	uid_t uid;
	gid_t gid;
	const char *name; /* for the supplementary groups; NULL: none */
};

static int user_find(const char *user, struct identity *ret)
{
	const struct passwd *pw = getpwnam(user);
	uint64_t number;

	if (pw) {
		*ret = (struct identity){pw->pw_uid, pw->pw_gid, pw->pw_name};
		return 0;
	}
	if (parse_u64(user, &number) < 0 || number >= UINT32_MAX) {
		log_error("option '--user=%s': there is no such user", user);
		return -ENOENT;
	}
	*ret = (struct identity){(uid_t)number, (gid_t)number, NULL};
	return 0;
}

static int group_find(const char *group, gid_t *ret)
{
	const struct group *gr = getgrnam(group);
	uint64_t number;

	if (gr) {
		*ret = gr->gr_gid;
		return 0;
	}
	if (parse_u64(group, &number) < 0 || number >= UINT32_MAX) {
		log_error("option '--group=%s': there is no such group", group);
		return -ENOENT;
	}
	*ret = (gid_t)number;
	return 0;
}

static int become(const struct identity *id)
{
	int r = id->name ? initgroups(id->name, id->gid) : setgroups(1, &id->gid);

	if (r || setresgid(id->gid, id->gid, id->gid) || setresuid(id->uid, id->uid, id->uid))
		return -errno;
	/* Paranoia that costs nothing: there must be no way back. */
	if (id->uid && (!setuid(0) || !seteuid(0)))
		return -EPERM;
	return 0;
}

int privilege_drop(const char *user, const char *group)
{
	struct identity id = {getuid(), getgid(), NULL};
	int r = user ? user_find(user, &id) : 0;

	if (!r && group)
		r = group_find(group, &id.gid);
	if (r < 0)
		return r;
	if (user || group)
		r = become(&id);
	if (!r && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		r = -errno;
	if (r < 0)
		log_error("cannot give up privileges: %s", strerror(-r));
	return r;
}
