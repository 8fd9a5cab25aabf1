/* SPDX-License-Identifier: MIT */
#include "fs/mounts.h"

#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>

/* getmntent(3) takes 4096 bytes of a line: here two names, of up to four bytes for each, and
 * options. */
#define LINE_MOST (2 * 4 * PATH_MAX + 4096)

bool mounts_is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && (path[len] == '/' || !strcmp(dir, "/"));
}

/* Whether the filesystem that covers path is an rwwfs; exactly: if it is mounted there. */
static bool covered_by_rwwfs(const char *path, bool exactly)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char line[LINE_MOST];
	size_t longest = 0;
	bool found = false;
	struct mntent entry, *m;

	if (!mounts)
		return false;
	while ((m = getmntent_r(mounts, &entry, line, sizeof(line)))) {
		size_t len = strlen(m->mnt_dir);
		bool here = !strcmp(path, m->mnt_dir);

		if (!here && (exactly || !mounts_is_below(path, m->mnt_dir)))
			continue;
		if (len < longest)
			continue;
		longest = len; /* of equal ones the last lies on top */
		found = !strcmp(m->mnt_type, "fuse.rwwfs");
	}
	endmntent(mounts);
	return found;
}

bool mounts_is_rwwfs(const char *path)
{
	return covered_by_rwwfs(path, true);
}

bool mounts_is_on_rwwfs(const char *path)
{
	return covered_by_rwwfs(path, false);
}
