/* SPDX-License-Identifier: MIT */
/*
 * FIEMAP tells which blocks are in reserve ("unwritten"). What was written there stays so until it
 * is on the disk, and its pages wait for that: cachestat(2) tells which do. They wait a moment
 * longer, so a page that did not wait was not written if its block is in reserve afterwards, too.
 */
#include "fs/reserve.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
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
		return PAGES_CLEAN;
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

/* The same for what is in reserve of an extent. */
static bool find_in(int fd, const struct fiemap_extent *extent, uint64_t offset, uint64_t end,
	uint64_t limit, struct range *ret)
{
	uint64_t start = extent->fe_logical, behind = start + extent->fe_length;

	if (!(extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN))
		return false;
	if (start < offset - offset % PAGE)
		start = offset - offset % PAGE;
	if (behind > limit)
		behind = limit;
	ret->start = first_page(fd, start, behind < end ? behind : end, PAGES_CLEAN);
	if (ret->start >= behind || ret->start >= end)
		return false;
	ret->end = first_page(fd, ret->start, behind, PAGES_DIRTY);
	return true;
}

union map {
	struct fiemap head;
	char room[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
};

/* The extents of [start, end), EXTENTS at most; false: there are none, or nobody tells. */
static bool look_up(int fd, uint64_t start, uint64_t end, union map *ret)
{
	ret->head = (struct fiemap){
		.fm_start = start, .fm_length = end - start, .fm_extent_count = EXTENTS};
	return ioctl(fd, FS_IOC_FIEMAP, ret) == 0 && ret->head.fm_mapped_extents > 0;
}

static bool find_among(int fd, const union map *map, uint64_t offset, uint64_t end, uint64_t limit,
	struct range *ret)
{
	for (unsigned i = 0; i < map->head.fm_mapped_extents; i++)
		if (find_in(fd, &map->head.fm_extents[i], offset, end, limit, ret))
			return true;
	return false;
}

bool reserve_begins(int fd, struct range *r)
{
	const struct fiemap_extent *first;
	union map map;

	if (!look_up(fd, r->start, r->end, &map))
		return false;
	first = &map.head.fm_extents[0];
	if (!(first->fe_flags & FIEMAP_EXTENT_UNWRITTEN) || first->fe_logical > r->start)
		return false;
	if (first->fe_logical + first->fe_length < r->end)
		r->end = first->fe_logical + first->fe_length;
	return true;
}

bool reserve_find(int fd, uint64_t offset, uint64_t end, uint64_t limit, struct range *ret)
{
	union map map;
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0 || sf.f_type == OVERLAYFS_SUPER_MAGIC)
		return false; /* the pages are those of another file */
	while (offset < end) {
		const struct fiemap_extent *last;

		if (!look_up(fd, offset, end, &map))
			return false;
		if (find_among(fd, &map, offset, end, limit, ret)) {
			if (reserve_begins(fd, ret))
				return true;
			offset = ret->start; /* it was on its way to the disk, and is there */
			continue;
		}
		last = &map.head.fm_extents[map.head.fm_mapped_extents - 1];
		if (map.head.fm_mapped_extents < EXTENTS || (last->fe_flags & FIEMAP_EXTENT_LAST))
			return false;
		offset = last->fe_logical + last->fe_length;
	}
	return false;
}
