/* SPDX-License-Identifier: MIT */
/* Standard output of a program that was asked for it. One thread. */
#ifndef COMMON_OUTPUT_H
#define COMMON_OUTPUT_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* Whether what was printed has arrived; otherwise one line says why not. */
static inline bool output_arrived(void)
{
	int r = fflush(stdout);

	if (r == 0 && !ferror(stdout))
		return true;
	log_error("cannot write: %s", strerror(r < 0 ? errno : EIO));
	return false;
}

#endif
