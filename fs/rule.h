/* SPDX-License-Identifier: MIT */
/*
 * The rule: what a read of a growing file gets. Pure; any thread; knows neither FUSE nor files.
 * Offsets and sizes are bytes. DESIGN: "reads of a following handle".
 */
#ifndef FS_RULE_H
#define FS_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum file_state {
	FILE_COMPLETE, /* nobody can write it */
	FILE_GROWING,  /* somebody can */
	FILE_ABORTED,  /* its last writer failed */
};

#define RULE_NONE UINT64_MAX /* no declared size; not cut */

struct rule_input {
	enum file_state state;
	uint64_t offset;
	size_t want;       /* bytes asked for */
	size_t available;  /* of these, written bytes in one piece from offset on */
	uint64_t declared; /* final size announced, or RULE_NONE */
	uint64_t cut;  /* the handle read past here before the file was cut there, or RULE_NONE */
	bool nonblock; /* O_NONBLOCK was set after open */
	bool page;     /* for the page cache (sendfile, splice, mmap), not for read(2) */
};

enum rule_answer {
	RULE_SERVE, /* these many bytes from offset on */
	RULE_HOLD,  /* nothing true can be said yet */
	RULE_END,   /* end of file */
	RULE_FAIL,  /* error */
};

struct rule_verdict {
	enum rule_answer answer;
	size_t serve; /* RULE_SERVE: > 0, <= available */
	int error;    /* RULE_FAIL: positive errno */
};

/*
 * How many of want bytes at offset a growing file must have for an answer: any, but all below a
 * declared size, since those who trust it take a short read for a file that shrank.
 */
size_t rule_needed(uint64_t declared, uint64_t offset, size_t want);

struct rule_verdict rule_read(const struct rule_input *in);

#endif
