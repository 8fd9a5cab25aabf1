/* SPDX-License-Identifier: MIT */
/*
 * The processes that use the mount, by the ids that the kernel gives with their requests. Any
 * thread may ask. Nothing here waits for them: a writer that closes waits for our answer.
 */
#ifndef FS_PROCESS_H
#define FS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Once, before there are threads. */
void process_init(void);
/* Whether the process that closes its descriptors fails: it was killed by a signal or, if asked,
 * exits with a status that is not 0. Why, as far as it fits, in reason. */
bool process_is_failing(pid_t pid, bool status_counts, char *reason, size_t size);
/* The process that a thread belongs to; 0 if it cannot be told. */
pid_t process_of(pid_t thread);
/*
 * Whether the thread, which waits for an answer, is a listener of fanotify(7) that reads its
 * events: the kernel opens their files for it meanwhile. -EAGAIN: it cannot be told yet; 0 if it
 * cannot be told at all.
 */
int process_reads_events(pid_t thread);
/* Its command; empty if it cannot be told. */
void process_command(pid_t pid, char *ret, size_t size);

#endif
