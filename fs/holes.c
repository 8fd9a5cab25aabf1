/* SPDX-License-Identifier: MIT */
/*
 * Telling written bytes from zeros that nobody wrote.
 *
 * Without passthrough every write passes the daemon, and file->unwritten is exact: what was skipped
 * by a seek or an ftruncate, less what was written since. With passthrough the daemon sees only
 * ftruncate and fallocate; a write beyond the end shows as a hole in the store, at the granularity
 * of its blocks (SEEK_HOLE). Two blocks next to a hole are in doubt: the one before it, whose end
 * may be padding, and the one behind it, whose beginning may be. A hole that was seen is therefore
 * remembered in file->unwritten together with these, and whole, from where it begins, which is
 * where written bytes end: so nobody need doubt what lies before a range. Inside a remembered range
 * a byte is believed on one of two proofs:
 *  - a byte that is not zero was written, and what precedes it in its block before it: writers go
 *    from left to right;
 *  - a block with data whose successor in the range has data too is full.
 * In the block in which the range ends neither tells by what lies behind the range: that was there
 * before. In space that the store has in reserve, by fallocate or by itself, it calls blocks data
 * that were merely read, or written beside; reserve.h knows better, of zeros once they are on the
 * disk, which writeout.h sees to. Where it does not, bytes alone count. So they do on tmpfs, where
 * what is read through a mapping is data from then on, on an overlay, which may be on one, on
 * btrfs, which writes zeros behind an end within a block when the file grows past it
 * (fs/btrfs/inode.c, btrfs_cont_expand()), where a part of a block was punched, and for a file that
 * may be written through a mapping: one byte makes data of all that the cache holds together with
 * it, hundreds of blocks perhaps. What cannot be proved is held until the file completes. Not seen
 * at all is a gap within one block, made by a passthrough writer that seeks over a few bytes: the
 * man page says so.
 */
#include "fs/holes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/reserve.h"

#define BLOCK_MAX 65536

static uint64_t block_start(const struct fs *fs, uint64_t offset)
{
	return offset - offset % fs->block;
}

/* How many bytes of the block up to its last one that is not zero. */
static size_t nonzero_length(int fd, uint64_t block, size_t size)
{
	unsigned char buf[BLOCK_MAX];
	ssize_t n = pread(fd, buf, size, (off_t)block);

	while (n > 0 && buf[n - 1] == 0)
		n--;
	return n > 0 ? (size_t)n : 0;
}

/* How many zeros the block begins with. */
static size_t zero_prefix(int fd, uint64_t block, size_t size)
{
	unsigned char buf[BLOCK_MAX];
	ssize_t n = pread(fd, buf, size, (off_t)block), i = 0;

	while (i < n && buf[i] == 0)
		i++;
	return (size_t)i;
}

/*
 * SEEK_HOLE. While the first bytes of a file are in its inode ext4 fails behind them with ENOENT
 * (fs/ext4/inline.c, ext4_inline_data_iomap()). To write them out ends that, unless nothing else
 * was written yet.
 */
static off_t seek_hole(const struct fs *fs, int fd, uint64_t offset)
{
	off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);

	if (hole >= 0 || errno != ENOENT)
		return hole;
	(void)sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE); /* then it is asked in vain */
	hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	if (hole >= 0 || errno != ENOENT)
		return hole;
	return (off_t)(offset < fs->block ? fs->block : offset);
}

static bool has_data(int fd, uint64_t block)
{
	return lseek(fd, (off_t)block, SEEK_DATA) == (off_t)block;
}

enum reserve { RESERVE_NONE, RESERVE_DOUBT, RESERVE_GAP };

/*
 * What r, all zeros, begins with, and in *r as far as that goes: no reserve (any more), so somebody
 * wrote that, whatever the store calls it; a gap in it; or one that zeros were written to perhaps,
 * which are sent to the disk and a gap until then, as what follows as far as end may be.
 */
static enum reserve judge(struct fs *fs, struct file *f, struct range *r, uint64_t end)
{
	bool waits = reserve_waits(file_fd(f), *r); /* first: it may reach the disk meanwhile */

	if (!reserve_begins(file_fd(f), r))
		return RESERVE_NONE;
	if (!waits)
		return RESERVE_GAP;
	writeout_add(fs, f, (struct range){r->start, end});
	return RESERVE_DOUBT;
}

/* Whether nobody is known to have written the block, which is zero. */
static bool in_reserve(struct fs *fs, struct file *f, uint64_t block, size_t size, uint64_t end)
{
	return judge(fs, f, &(struct range){block, block + size}, end) != RESERVE_NONE;
}

/* How much of a block r reaches into: bytes behind its end were there before it was filled. */
static size_t part_of(const struct fs *fs, struct range r, uint64_t block)
{
	return r.end - block < fs->block ? (size_t)(r.end - block) : fs->block;
}

/* Whether something was written into the block that begins at block, before the end of r. */
static bool is_begun(struct fs *fs, struct file *f, struct range r, bool bytes_only, uint64_t block)
{
	int fd = file_fd(f);
	size_t part;

	if (block >= r.end)
		return false;
	part = part_of(fs, r, block);
	if (nonzero_length(fd, block, part) > 0)
		return true;
	return !bytes_only && part == fs->block && has_data(fd, block) &&
	       !in_reserve(fs, f, block, part, r.end);
}

/* Whether offset (inside r) is among zeros that a block begins with, and a gap may reach so far. */
static bool in_padding(
	struct fs *fs, struct file *f, struct range r, bool bytes_only, uint64_t offset)
{
	uint64_t block = block_start(fs, offset);

	return block > r.start && block + zero_prefix(file_fd(f), block, fs->block) > offset &&
	       !is_begun(fs, f, r, bytes_only, block - fs->block);
}

/* The end of what can be believed of range r from offset (inside it) on, looking no further than
 * limit. */
static uint64_t believed(struct fs *fs, struct file *f, struct range r, bool bytes_only,
	uint64_t offset, uint64_t limit)
{
	int fd = file_fd(f);
	uint64_t pos = offset;

	if (limit > r.end)
		limit = r.end;
	if (in_padding(fs, f, r, bytes_only, offset))
		return offset;
	while (pos < limit) {
		uint64_t block = block_start(fs, pos), next = block + fs->block;
		size_t part = part_of(fs, r, block), proven = nonzero_length(fd, block, part);

		if (!proven && (bytes_only || !has_data(fd, block) ||
				       in_reserve(fs, f, block, part, r.end)))
			break;
		if (!is_begun(fs, f, r, bytes_only, next)) {
			pos = block + proven > pos ? block + proven : pos;
			break;
		}
		pos = next;
	}
	return pos < limit ? pos : limit;
}

/* Before it there was no gap in the store's reserve, nor a hole: its bytes have been given out. */
static uint64_t examined(struct fs *fs, struct file *f)
{
	SCOPED_LOCK(&fs->files_lock);
	return f->examined;
}

/* Where written bytes end before a hole. A block of zeros before it may be written, and is in
 * doubt; if it is of the store's reserve, so is the one before it. */
static uint64_t written_before(struct fs *fs, struct file *f, uint64_t hole)
{
	uint64_t sure = examined(fs, f);

	if (sure > hole)
		sure = 0; /* it came later */
	while (hole > sure) {
		size_t before = hole - block_start(fs, hole - 1), n;

		hole -= before; /* it may have been met in the middle */
		n = nonzero_length(file_fd(f), hole, before);
		if (n || !in_reserve(fs, f, hole, before, hole + before)) {
			hole += n;
			break;
		}
	}
	return hole > sure ? hole : sure;
}

/* Likewise, where they begin again. */
static uint64_t written_behind(struct fs *fs, struct file *f, uint64_t end)
{
	size_t n;

	while ((n = zero_prefix(file_fd(f), end, fs->block)) == fs->block &&
		in_reserve(fs, f, end, n, end + n))
		end += n;
	return end + n;
}

/* Remembers a hole and what is in doubt around it. data_behind: it does not reach to the end. */
static int remember(struct fs *fs, struct file *f, struct range hole, bool data_behind)
{
	if (file_is_passthrough(f)) {
		hole.start = written_before(fs, f, hole.start);
		if (data_behind)
			hole.end = written_behind(fs, f, hole.end);
	}
	return holes_note(fs, f, hole.start, hole.end);
}

/* A hole begins at hole: remember it and what is in doubt around it. *ret_end: of the hole. */
static int remember_hole(
	struct fs *fs, struct file *f, int fd, uint64_t hole, uint64_t size, uint64_t *ret_end)
{
	off_t data = lseek(fd, (off_t)hole, SEEK_DATA);
	uint64_t end = data < 0 ? size : (uint64_t)data;

	if (data < 0 && errno != ENXIO && errno != ENOENT) /* seek_hole() */
		return -errno;
	*ret_end = end > hole ? end : hole;
	if (end <= hole)
		return 0; /* filled meanwhile */
	return remember(fs, f, (struct range){hole, end}, data >= 0);
}

/* The end of the remembered range that offset is in; offset if there is none. */
static uint64_t behind_range(struct fs *fs, struct file *f, uint64_t offset)
{
	const struct range *r;

	SCOPED_LOCK(&fs->files_lock);
	r = ranges_next(&f->unwritten, offset);
	return r && r->start <= offset ? r->end : offset;
}

/* Remembers all holes that reach into [offset, end). There is no seeking back to where the first
 * one begins, so all are looked at from the last remembered range on. */
static int remember_holes(struct fs *fs, struct file *f, uint64_t offset, uint64_t end)
{
	int fd = file_fd(f), r = 0;
	uint64_t pos;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (end > (uint64_t)st.st_size)
		end = (uint64_t)st.st_size;
	pthread_mutex_lock(&fs->files_lock);
	pos = ranges_end_before(&f->unwritten, offset);
	pthread_mutex_unlock(&fs->files_lock);
	while (r == 0 && pos < end) {
		off_t hole = seek_hole(fs, fd, pos);
		uint64_t known;

		if (hole < 0)
			return errno == ENXIO || errno == EINVAL ? 0 : -errno;
		if ((uint64_t)hole >= end)
			return 0;
		known = behind_range(fs, f, (uint64_t)hole);
		if (known > (uint64_t)hole)
			pos = known;
		else
			r = remember_hole(fs, f, fd, (uint64_t)hole, (uint64_t)st.st_size, &pos);
	}
	return r;
}

struct known {
	struct range r;
	bool bytes_only;
	uint64_t changes; /* of f->unwritten by then */
};

/* The first remembered range behind offset; tells whether offset is inside it. */
static bool next_range(struct fs *fs, struct file *f, uint64_t offset, struct known *ret)
{
	const struct range *r;

	SCOPED_LOCK(&fs->files_lock);
	r = ranges_next(&f->unwritten, offset);
	*ret = (struct known){
		.r = r ? *r : (struct range){UINT64_MAX, UINT64_MAX},
		.bytes_only = f->bytes_only || f->inode->mapped,
		.changes = f->unwritten.changes,
	};
	return ret->r.start <= offset;
}

static ssize_t in_range(
	struct fs *fs, struct file *f, const struct known *k, uint64_t offset, size_t want)
{
	uint64_t end;

	if (!file_is_passthrough(f))
		return 0;
	end = believed(fs, f, k->r, k->bytes_only, offset, offset + want);
	if (end > offset && offset == k->r.start) {
		SCOPED_LOCK(&fs->files_lock);
		if (f->unwritten.changes == k->changes) /* else it may be a gap again by now */
			(void)ranges_remove(&f->unwritten, offset, end); /* -ENOMEM: proved again */
	}
	return (ssize_t)(end - offset);
}

/* The gap that pos is in, if nobody has met it yet, is remembered. If it is in doubt, -EAGAIN, or
 * with now only after the disk has been waited for in vain. */
static int remember_gap_at(struct fs *fs, struct file *f, uint64_t pos, bool now)
{
	bool written_out = false;
	enum reserve is;
	int fd = file_fd(f), e;
	struct range r;
	struct stat st;

	if (!file_is_passthrough(f))
		return 0;
	if (!has_data(fd, pos)) {
		e = remember_holes(fs, f, pos, pos + 1);
		if (e < 0 || behind_range(fs, f, pos) > pos)
			return e; /* else it counts as data by now: it was read ahead */
	}
	if (pos < examined(fs, f) || nonzero_length(fd, block_start(fs, pos), fs->block) > 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	do {
		if (!reserve_find(fd, pos, pos + 1, (uint64_t)st.st_size, &r))
			return 0;
		is = judge(fs, f, &r, r.end);
		if (is == RESERVE_DOUBT && !now)
			return -EAGAIN;
		if (is == RESERVE_DOUBT && !written_out) {
			reserve_write_out(fd, (struct range){r.start, pos + 1});
			written_out = true;
			is = RESERVE_NONE;
		}
	} while (is == RESERVE_NONE);
	return remember(fs, f, r, r.end < (uint64_t)st.st_size);
}

/*
 * Whoever reads from the middle of a file may begin where a hole that nobody has met yet pads the
 * block behind it. -EAGAIN: nobody knows yet.
 */
static int remember_hole_before(struct fs *fs, struct file *f, uint64_t offset)
{
	uint64_t block = block_start(fs, offset), end;
	int r;

	if (!block || !file_is_passthrough(f))
		return 0;
	r = remember_gap_at(fs, f, block - 1, false);
	if ((r < 0 && r != -EAGAIN) || (r == 0 && behind_range(fs, f, block - 1) != block))
		return r;
	/* One that is known was no hole of the store's when something was written behind it. */
	end = block + zero_prefix(file_fd(f), block, fs->block);
	if (end <= offset)
		return 0;
	return r < 0 ? r : holes_note(fs, f, block, end);
}

/* The first gap in the store's reserve that reaches into [offset, end): bytes prove that there
 * is none, whatever the store says. */
static bool find_gap(struct fs *fs, struct file *f, uint64_t offset, uint64_t end, uint64_t size,
	struct range *ret)
{
	while (offset < end && reserve_find(file_fd(f), offset, end, size, ret)) {
		if (ret->start < offset)
			ret->start = offset;
		offset = believed(fs, f, *ret, true, ret->start, end);
		if (offset == ret->start)
			return true;
	}
	return false;
}

/* How much of [offset, end) there is for sure if there may be a gap at start, which then pads the
 * block before it, but for what was there before. */
static ssize_t before_doubt(
	struct fs *fs, struct file *f, uint64_t offset, uint64_t end, uint64_t start)
{
	uint64_t sure = start ? block_start(fs, start - 1) : 0, before = examined(fs, f);

	sure += nonzero_length(file_fd(f), sure, fs->block);
	if (before <= start && before > sure)
		sure = before;
	if (sure > end)
		sure = end;
	return sure > offset ? (ssize_t)(sure - offset) : 0;
}

/*
 * n bytes from offset on that the store calls data; -EAGAIN: there was a gap in its reserve after
 * all, which is remembered now, or is none any more. known: where the next one that is begins.
 * size: the file's.
 */
static ssize_t without_reserve(
	struct fs *fs, struct file *f, uint64_t offset, size_t n, uint64_t known, uint64_t size)
{
	uint64_t end = offset + n, behind = end + fs->block, from, before;
	struct range r;
	int e;

	if (n == 0 || !file_is_passthrough(f))
		return (ssize_t)n;
	pthread_mutex_lock(&fs->files_lock);
	from = f->examined > offset ? f->examined : offset;
	before = f->unwritten.changes;
	pthread_mutex_unlock(&fs->files_lock);
	/* One that begins just behind them pads their last block. */
	if (find_gap(fs, f, from, behind < known ? behind : known, size, &r)) {
		switch (judge(fs, f, &r, r.end)) {
		case RESERVE_NONE:
			return -EAGAIN;
		case RESERVE_DOUBT:
			return before_doubt(fs, f, offset, end, r.start);
		case RESERVE_GAP:
			break;
		}
		e = remember(fs, f, r, r.end < size);
		return e < 0 ? e : file_is_growing(fs, f) ? -EAGAIN : (ssize_t)n;
	}
	SCOPED_LOCK(&fs->files_lock);
	if (offset <= f->examined && end > f->examined && f->unwritten.changes == before)
		f->examined = end;
	return (ssize_t)n;
}

ssize_t holes_available(struct fs *fs, struct file *f, uint64_t offset, size_t want)
{
	int fd = file_fd(f), e = remember_hole_before(fs, f, offset);
	uint64_t filled = offset;

	if (e < 0)
		return e == -EAGAIN ? 0 : e;
	for (;;) {
		struct known k;
		struct stat st;
		off_t hole;

		if (next_range(fs, f, offset, &k))
			return in_range(fs, f, &k, offset, want);
		if (want > k.r.start - offset) {
			/* Not twice: what is proved may be a hole of the store's smaller blocks. */
			if (k.r.start > filled && in_range(fs, f, &k, k.r.start, want) > 0) {
				filled = k.r.start; /* some of it was written meanwhile */
				continue;
			}
			want = (size_t)(k.r.start - offset);
		}

		hole = seek_hole(fs, fd, offset);
		if (hole < 0 && errno == ENXIO)
			return 0; /* at or behind the end */
		if ((hole < 0 && errno != EINVAL) || fstat(fd, &st) < 0)
			return -errno;
		if (hole < 0) /* the store has no notion of holes */
			hole = st.st_size;
		/* Known, or far: a reader that is behind; or none is left. */
		if ((uint64_t)hole >= k.r.start || (uint64_t)hole >= offset + want + fs->block ||
			hole >= st.st_size || has_data(fd, (uint64_t)hole)) {
			uint64_t there = (uint64_t)hole > offset ? (uint64_t)hole - offset : 0;
			ssize_t n = without_reserve(fs, f, offset, there < want ? there : want,
				k.r.start, (uint64_t)st.st_size);

			if (n != -EAGAIN)
				return n;
			continue;
		}
		e = remember_holes(fs, f, offset, (uint64_t)hole + 1);
		if (e < 0)
			return e;
		pthread_mutex_lock(&fs->files_lock);
		e = f->state != FILE_GROWING;
		pthread_mutex_unlock(&fs->files_lock);
		if (e)
			return (ssize_t)want; /* completed meanwhile: holes are zeros now */
	}
}

/* A byte that is not zero proves those before it in its block, but for those of a remembered range:
 * look at the last one of each, and at the first, for there may be a hole before it. */
bool holes_all_written(struct fs *fs, struct file *f, uint64_t changes, uint64_t offset,
	const char *bytes, size_t n)
{
	uint64_t end = offset + n;
	const struct range *r;

	if (bytes[0] == 0)
		return false;
	for (uint64_t pos = offset; pos < end;) {
		uint64_t next = block_start(fs, pos) + fs->block;

		if (next > end)
			next = end;
		if (bytes[next - 1 - offset] == 0)
			return false;
		pos = next;
	}
	SCOPED_LOCK(&fs->files_lock);
	r = ranges_next(&f->unwritten, offset);
	return f->unwritten.changes == changes && (!r || r->start >= end);
}

void holes_begin(struct fs *fs, struct file *f)
{
	struct statfs sf = {0};
	bool lies = file_is_passthrough(f) && fstatfs(file_fd(f), &sf) == 0 &&
		    (sf.f_type == TMPFS_MAGIC || sf.f_type == OVERLAYFS_SUPER_MAGIC ||
			    sf.f_type == BTRFS_SUPER_MAGIC);

	SCOPED_LOCK(&fs->files_lock);
	f->bytes_only |= lies;
}

/* What is written behind makes a block of data of the rest of a gap. */
int holes_before_cut(struct fs *fs, struct file *f, uint64_t size)
{
	return size ? remember_gap_at(fs, f, size - 1, true) : 0;
}

int holes_before_gap(struct fs *fs, struct file *f, uint64_t *start, uint64_t end)
{
	uint64_t block;
	ssize_t n;

	if (!file_is_passthrough(f))
		return 0;
	if (*start % fs->block || end % fs->block) { /* the store writes zeros there */
		SCOPED_LOCK(&fs->files_lock);
		f->bytes_only = true;
	}
	if (*start == 0)
		return 0;
	block = block_start(fs, *start - 1);
	n = holes_available(fs, f, block, (size_t)(*start - block));
	if (n < 0)
		return (int)n;
	*start = block + (uint64_t)n;
	return 0;
}

int holes_before_allocation(struct fs *fs, struct file *f, uint64_t start, uint64_t end)
{
	bool told = reserve_is_told(file_fd(f));

	pthread_mutex_lock(&fs->files_lock);
	f->bytes_only |= f->state == FILE_GROWING && !told;
	pthread_mutex_unlock(&fs->files_lock);
	return remember_holes(fs, f, start, end);
}

static int note_locked(struct file *f, uint64_t start, uint64_t end)
{
	return f->state == FILE_GROWING ? ranges_add(&f->unwritten, start, end) : 0;
}

int holes_note(struct fs *fs, struct file *f, uint64_t start, uint64_t end)
{
	SCOPED_LOCK(&fs->files_lock);
	return note_locked(f, start, end);
}

int holes_note_grown(struct fs *fs, struct file *f, uint64_t start, uint64_t end)
{
	SCOPED_LOCK(&fs->files_lock);
	if (f->bytes_only && file_is_passthrough(f))
		end = block_start(fs, end + fs->block - 1);
	return note_locked(f, start, end);
}

int holes_after_cut(struct fs *fs, struct file *f, uint64_t size)
{
	if (!size || behind_range(fs, f, size - 1) != size)
		return 0;
	return holes_note_grown(fs, f, size - 1, size);
}
