/* SPDX-License-Identifier: MIT */
/* Going into the background, and not before the mount answers. */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

/*
 * Before anything else is opened: no descriptor of ours may get a number below 3, for those are
 * replaced when the parent leaves, whether we were given them or not.
 */
void daemon_fill_streams(void);

/*
 * Forks before any thread. In the child it returns 0, and *ret_ready_fd is where one byte tells the
 * parent that all is well. The parent never returns: it exits with 0 after that byte, and with 1
 * when the child ends without it. Negative errno after a message when there is no child.
 */
int daemon_start(int *ret_ready_fd);

#endif
