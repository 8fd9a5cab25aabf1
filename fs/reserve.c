/* SPDX-License-Identifier: MIT */
/*
 * FIEMAP tells which blocks are in reserve ("unwritten"), or are none: xfs may have some in reserve
 * even then, for copies on write. What was written there stays so until it is on the disk, and its
 * pages wait for that, which cachestat(2) tells. They wait a moment longer, so a page that did not
 * wait was not written if its block is in reserve afterwards, too. One that waits may do so because
 * others of its folio were written: if it is zero, it is in doubt until it was written to the disk,
 * after which its block is in reserve only if nobody wrote there (fs/iomap/buffered-io.c knows
 * which blocks of a folio are dirty). So may all pages, where nobody tells: on an overlay.
 */
#include "fs/reserve.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXTENTS 16
#define PAGE    ((uint64_t)sysconf(_SC_PAGESIZE))

/* cachestat(2) of Linux 6.5, as passthrough needs a later one; older headers lack it. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

enum pages { PAGES_CLEAN, PAGES_DIRTY, PAGES_MIXED };

/* Its pages are those of another file, of which nobody tells. */
static bool is_overlay(int fd)
{
	struct statfs sf;

	return fstatfs(fd, &sf) < 0 || sf.f_type == OVERLAYFS_SUPER_MAGIC;
}

static enum pages look_at(int fd, uint64_t start, uint64_t end)
{
	struct {
		uint64_t start, length;
	} range = {start, end - start};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently;
	} there = {0};
	uint64_t all = (end - start + PAGE - 1) / PAGE;

	if (syscall(SYS_cachestat, fd, &range, &there, 0) < 0)
		return PAGES_DIRTY; /* nobody tells, a container's filter perhaps */
	if (there.dirty + there.writeback == 0)
		return is_overlay(fd) ? PAGES_DIRTY : PAGES_CLEAN;
	return there.dirty >= all || there.writeback >= all ? PAGES_DIRTY : PAGES_MIXED;
}

/* The first page of [start, end) that is such; end if none is. start: of a page. */
static uint64_t first_page(int fd, uint64_t start, uint64_t end, enum pages such)
{
	enum pages are = start < end ? look_at(fd, start, end) : such;
	uint64_t middle, found;

	if (are != PAGES_MIXED)
		return are == such ? start : end;
	middle = start + (end - start + PAGE) / 2 / PAGE * PAGE;
	found = first_page(fd, start, middle, such);
	return found < middle ? found : first_page(fd, middle, end, such);
}

/* The first page of [start, end) that is zero, or that is not; end if none is. start: of a page.
 * On an overlay one counts that ends in a zero: it may be about to be filled. */
static uint64_t first_of_bytes(int fd, uint64_t start, uint64_t end, bool zero)
{
	const size_t page = PAGE;
	const bool ends = is_overlay(fd);
	char buf[65536];
	ssize_t n;

	for (; start < end && (n = pread(fd, buf, sizeof(buf), (off_t)start)) > 0;
		start += (uint64_t)n) {
		for (size_t at = 0; at < (size_t)n && start + at < end; at += page) {
			size_t rest = (size_t)n - at < page ? (size_t)n - at : page;

			if ((buf[at + rest - 1] == 0 &&
				    (ends || !memcmp(buf + at, buf + at + 1, rest - 1))) == zero)
				return start + at;
		}
	}
	return end;
}

/* The first gap that begins in [start, end), where nothing is written, as far as limit: in doubt if
 * its pages wait for the disk. */
static bool first_gap(int fd, uint64_t start, uint64_t end, uint64_t limit, struct range *ret)
{
	while (start < end) {
		uint64_t dirty = first_page(fd, start, limit, PAGES_DIRTY), clean;

		*ret = (struct range){start, dirty};
		if (dirty > start)
			return true;
		clean = first_page(fd, start, limit, PAGES_CLEAN);
		ret->start = first_of_bytes(fd, start, clean < end ? clean : end, true);
		ret->end = first_of_bytes(fd, ret->start, clean, false);
		if (ret->start < clean && ret->start < end)
			return true;
		start = clean;
	}
	return false;
}

union map {
	struct fiemap head;
	char room[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
};

/* The first piece of [start, end) in which no block of the store is known to be written. False:
 * there is none, or nobody tells. */
static bool next_unwritten(int fd, uint64_t start, uint64_t end, struct range *ret)
{
	union map map;

	while (start < end) {
		map.head = (struct fiemap){
			.fm_start = start, .fm_length = end - start, .fm_extent_count = EXTENTS};
		if (ioctl(fd, FS_IOC_FIEMAP, &map) < 0)
			return false;
		for (unsigned i = 0; i < map.head.fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &map.head.fm_extents[i];
			bool none = e->fe_logical > start;
			uint64_t behind = none ? e->fe_logical : e->fe_logical + e->fe_length;

			if (behind <= start)
				continue; /* btrfs tells of such */
			if (none || (e->fe_flags & FIEMAP_EXTENT_UNWRITTEN)) {
				*ret = (struct range){start, behind < end ? behind : end};
				return start < end;
			}
			start = behind;
		}
		if (map.head.fm_mapped_extents < EXTENTS)
			break;
	}
	*ret = (struct range){start, end};
	return start < end;
}

bool reserve_begins(int fd, struct range *r)
{
	struct range unwritten;

	if (!next_unwritten(fd, r->start, r->end, &unwritten) || unwritten.start > r->start)
		return false;
	r->end = unwritten.end;
	return true;
}

bool reserve_waits(int fd, struct range r)
{
	return r.start < r.end && look_at(fd, r.start, r.end) != PAGES_CLEAN;
}

/* Not if ext4 may write zeros beside what is written (fs/ext4/extents.c,
 * ext4_ext_convert_to_initialized()): without dioread_nolock, or on a full disk. */
bool reserve_is_told(int fd)
{
	struct statfs sf;

	return fstatfs(fd, &sf) == 0 && sf.f_type != OVERLAYFS_SUPER_MAGIC &&
	       sf.f_type != EXT4_SUPER_MAGIC &&
	       ioctl(fd, FS_IOC_FIEMAP, &(struct fiemap){.fm_length = 1}) == 0;
}

bool reserve_find(int fd, uint64_t offset, uint64_t end, uint64_t limit, struct range *ret)
{
	const uint64_t from = offset;
	struct range r;

	if (end > limit)
		end = limit;
	offset -= offset % PAGE;
	while (next_unwritten(fd, offset, end, &r) && next_unwritten(fd, r.start, limit, &r) &&
		r.start < end) {
		offset = r.end < end ? r.end : end;
		if (!first_gap(fd, r.start, offset, r.end, ret))
			continue;
		if (!reserve_begins(fd, ret))
			offset = ret->start; /* it was on its way to the disk, and is there */
		else if (ret->end > from)
			return true;
		else
			offset = ret->end; /* a small block, of the page that from is in */
	}
	return false;
}

/* An overlay passes advice on to its file, but no more: "don't need" has what waits for the disk
 * written, and forgets the rest (mm/fadvise.c). */
void reserve_write_out(int fd, struct range r)
{
	off_t start = (off_t)r.start, length = (off_t)(r.end - r.start);

	if (is_overlay(fd))
		(void)posix_fadvise(fd, start, length, POSIX_FADV_DONTNEED);
	else
		(void)sync_file_range(fd, start, length,
			SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER);
}
