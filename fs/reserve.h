/* SPDX-License-Identifier: MIT */
/*
 * Space that the store keeps in reserve for a file: made by fallocate(2) before the file grew here,
 * or by xfs itself behind the end of what is being written. Where a gap is left in it, SEEK_DATA
 * sees one only until somebody reads there: then the pages of zeros in the cache count as data. Any
 * thread, no locks.
 */
#ifndef FS_RESERVE_H
#define FS_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/ranges.h"

/*
 * The first piece of reserve from offset on that begins before end and that nobody has written, as
 * far as limit; it is in doubt if it waits for the disk. False: there is none, or the store does
 * not tell.
 */
bool reserve_find(int fd, uint64_t offset, uint64_t end, uint64_t limit, struct range *ret);
/* The same of r, which is zero: cuts it to what of its beginning is. False: nothing. */
bool reserve_begins(int fd, struct range *r);
/* Whether some of r waits for the disk: then zeros may be written there. */
bool reserve_waits(int fd, struct range r);
/* Has it written to the disk, which may be waited for. */
void reserve_write_out(int fd, struct range r);
/* Whether the store tells of its reserve at all, and leaves it alone. */
bool reserve_is_told(int fd);

#endif
