/* SPDX-License-Identifier: MIT */
#include "fs/fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

bool fusermount_can_run(void)
{
	const char *path = getenv("PATH");
	autofree char *dirs = strdup(path ? path : "/bin:/usr/bin");
	char *rest = dirs, *dir, file[PATH_MAX];

	while (rest && (dir = strsep(&rest, ":"))) {
		snprintf(file, sizeof(file), "%s/fusermount3", *dir ? dir : ".");
		if (access(file, X_OK) == 0)
			return true;
	}
	return false;
}

/* Whether a program ends with 0, whatever it says. */
static bool succeeds(char **argv)
{
	posix_spawn_file_actions_t silent;
	int status = -1;
	pid_t pid;
	bool ran;

	if (posix_spawn_file_actions_init(&silent) != 0)
		return false;
	ran = posix_spawn_file_actions_addopen(&silent, 1, "/dev/null", O_WRONLY, 0) == 0 &&
	      posix_spawn_file_actions_adddup2(&silent, 1, 2) == 0 &&
	      posix_spawnp(&pid, argv[0], &silent, NULL, argv, environ) == 0;
	posix_spawn_file_actions_destroy(&silent);
	while (ran && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return ran && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool fusermount_knows_auto_unmount(void)
{
	char program[] = "fusermount3", option[] = "--auto-unmount";
	char last[] = "--version"; /* ends it with 0 unless an option before it was unknown */

	return succeeds((char *[]){program, option, last, NULL});
}
