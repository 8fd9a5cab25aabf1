/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/ctl.h"
#include "fs/mounts.h"

const char *ctl_strerror(int e)
{
	if (e == ENOTCONN || e == ECONNABORTED) /* before, or meanwhile */
		return "the daemon of this mount is gone";
	return strerror(e);
}

static int complain(const char *path, int e)
{
	log_error("%s: %s", path, ctl_strerror(e));
	return -e;
}

int ctl_mount_of(const char *path, char **ret)
{
	autofree char *real = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return complain(path, errno);
	for (char *slash;;) {
		if (mounts_is_rwwfs(*real ? real : "/")) {
			*ret = *real ? steal_ptr(&real) : strdup("/");
			return *ret ? 0 : -ENOMEM;
		}
		slash = strrchr(real, '/');
		if (!slash || !*real)
			break;
		*slash = '\0';
	}
	log_error("%s: not on an rwwfs mount", path);
	return -ENODEV;
}

static FILE *open_status(const char *mountpoint)
{
	autofree char *path = NULL;
	FILE *f;

	if (asprintf(&path, "%s/.rww/status", mountpoint) < 0)
		return NULL;
	f = fopen(path, "re");
	if (!f && (errno == ENOENT || errno == ENOTDIR) && mounts_is_rwwfs(mountpoint))
		log_error("%s: a part of an rwwfs mount, which tells its status where it is "
			  "mounted as a whole",
			mountpoint);
	else if (!f && errno == ENOENT) /* any more */
		log_error("%s: not on an rwwfs mount", mountpoint);
	else if (!f)
		(void)complain(path, errno);
	return f;
}

int ctl_status(const char *mountpoint, json_t **ret)
{
	FILE *f = open_status(mountpoint);
	json_error_t error;

	if (!f)
		return -EIO;
	*ret = json_loadf(f, 0, &error);
	fclose(f);
	if (*ret)
		return 0;
	log_error("%s/.rww/status: %s", mountpoint, error.text);
	return -EIO;
}

int ctl_copy_status(const char *mountpoint, FILE *out)
{
	FILE *f = open_status(mountpoint);
	char buf[65536];
	size_t n;
	int r;

	if (!f)
		return -EIO;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		(void)fwrite(buf, 1, n, out); /* the caller asks ferror() */
	r = ferror(f) ? complain(mountpoint, EIO) : 0;
	fclose(f);
	return r;
}
