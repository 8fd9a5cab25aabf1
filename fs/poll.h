/* SPDX-License-Identifier: MIT */
/* poll(2), epoll(7), select(2). */
#ifndef FS_POLL_H
#define FS_POLL_H

#include <stdbool.h>

struct file;
struct fs;

/* Tells the kernel to ask again for the handles of f that somebody polls and that may be ready. */
void poll_notify(struct fs *fs, struct file *f);

/* Whether anybody polls f for growth. */
bool poll_waits_for_growth_locked(const struct file *f);

#endif
