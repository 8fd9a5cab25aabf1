/* SPDX-License-Identifier: MIT */
/*
 * The command line. One table holds every option of ours; what remains of -o goes to libfuse and
 * the kernel. Read-only after options_parse().
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum opt_passthrough { PASSTHROUGH_AUTO, PASSTHROUGH_ON, PASSTHROUGH_OFF };
enum opt_hold { HOLD_READ, HOLD_OPEN, HOLD_NONE };
enum opt_abort_on { ABORT_ON_SIGNAL, ABORT_ON_FAILURE, ABORT_ON_NEVER };
enum opt_aborted { ABORTED_READABLE, ABORTED_DENY };
enum opt_sync { SYNC_NONE, SYNC_COMPLETE };
enum opt_nonblock { NONBLOCK_PLAIN, NONBLOCK_HOLD };

/*
 * Bytes of a read request: as many as the kernel sends at most; and more than the page that a part
 * of a large read may be left short (read.c).
 */
#define OPT_MAX_READ_MOST  1048576
#define OPT_MAX_READ_LEAST 8192

struct options {
	char *store, *mountpoint; /* absolute; owned */
	char *mount_options;      /* for libfuse, comma-separated; owned; NULL if none */
	char *pidfile;            /* owned; NULL if none */
	int passthrough;          /* enum opt_passthrough */
	int hold;                 /* enum opt_hold */
	int nonblock;             /* enum opt_nonblock */
	int abort_on;             /* enum opt_abort_on */
	int aborted;              /* enum opt_aborted */
	int sync;                 /* enum opt_sync */
	uint64_t linger_ms;       /* 0: complete at the last close */
	uint64_t hold_timeout_ms; /* 0: none */
	uint64_t attr_timeout_ms, entry_timeout_ms;
	uint64_t max_read; /* bytes */
	bool foreground, debug, single;
	bool auto_unmount;
	bool fake, sloppy; /* for mount(8): mount nothing; ignore unknown options */
	bool help, version;
};

/* 0, or -EINVAL after one line that says what is wrong. The caller ends with options_done(). */
int options_parse(struct options *o, int argc, char **argv);
void options_done(struct options *o);
void options_help(FILE *to);

/* Every option of ours with its value, by name. The caller owns it. */
struct json_t *options_json(const struct options *o);
const char *options_hold_name(const struct options *o);

#endif
