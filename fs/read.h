/* SPDX-License-Identifier: MIT */
/* Reads: answered at once, or held. */
#ifndef FS_READ_H
#define FS_READ_H

#include <stdbool.h>

struct fs;
struct waiter;

/* This thread's, as large as the largest answer; NULL when memory is short. */
char *read_buffer(struct fs *fs);

/* Answers w by the rule as it stands now; false: it is held again and not the caller's any more. */
bool read_answer(struct fs *fs, struct waiter *w);

#endif
