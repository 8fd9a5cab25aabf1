/* SPDX-License-Identifier: MIT */
/* Opening and closing files: which kind of handle (DESIGN, "Handles"), and by which way. */
#ifndef FS_OPEN_H
#define FS_OPEN_H

struct fs;
struct waiter;

/* Answers an open that waited (hold=open), or keeps it waiting in a waiter of its own. */
void open_resume(struct fs *fs, struct waiter *w);

#endif
