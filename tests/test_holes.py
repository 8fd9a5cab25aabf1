# SPDX-License-Identifier: MIT
"""Holes and preallocation under a follower."""
import errno
import mmap
import os
import random

import pytest

from harness.data import BLOCK, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate, pattern
from harness.following import first_difference, follow, follow_fd, follow_from, given

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


def test_a_file_extended_by_ftruncate_is_held(mount):
    writer = mount.writer("f")
    writer.truncate(100_000)
    reader = mount.reader("f")
    held = reader.begin_read().wait_held().stays_held()
    assert mount.stat("f").st_size == 100_000
    writer.close()
    assert follow_from(held.result(), reader, 100_000) == bytes(100_000)
    assert reader.read() == b""


def test_written_bytes_before_a_hole_are_delivered_but_for_a_block(mount):
    writer = mount.writer("f")
    writer.write(pattern(3 * BLOCK))
    writer.truncate(20 * BLOCK)
    reader = mount.reader("f")
    got = follow(reader, 2 * BLOCK)
    assert got == pattern(2 * BLOCK)
    held = reader.begin_pread(BLOCK, 3 * BLOCK).wait_held()
    writer.pwrite(pattern(17 * BLOCK, 5), 3 * BLOCK)
    assert held.result() == pattern(BLOCK, 5)
    assert follow(reader, 18 * BLOCK) == pattern(3 * BLOCK)[2 * BLOCK:] + pattern(17 * BLOCK, 5)
    reader.begin_read().wait_held()


def test_a_write_beyond_the_end_does_not_release_the_hole(mount):
    data = pattern(1 << 20) + b"end"
    writer = mount.writer("f")
    writer.write(data[:BLOCK])
    reader = mount.reader("f")
    assert reader.read(BLOCK) == data[:BLOCK]
    held = reader.begin_read().wait_held()
    writer.pwrite(b"end", 1 << 20)
    held.stays_held()
    for offset in range(BLOCK, 1 << 20, 60 << 10):
        writer.pwrite(data[offset:min(offset + (60 << 10), 1 << 20)], offset)
    assert follow_from(held.result(), reader, len(data) - BLOCK) == data[BLOCK:]
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


@pytest.mark.modes("off", "user")  # otherwise no write passes the daemon
def test_a_write_beyond_the_end_that_failed_leaves_no_hole(mode, make_mount):
    mount = make_mount(mode, wrapper=("prlimit", f"--fsize={100 * BLOCK}"))
    writer = mount.writer("f", os.O_WRONLY | os.O_CREAT)
    writer.write(pattern(100))
    assert writer.errno(os.pwrite, b"!", 200 * BLOCK) == errno.EFBIG
    reader = mount.reader("f")
    assert reader.read() == pattern(100)
    held = reader.begin_read().wait_held()
    mount.writer("f", os.O_WRONLY | os.O_APPEND).write(pattern(BLOCK, 2))
    assert held.result() == pattern(BLOCK, 2)
    reader.begin_read().wait_held()


def test_the_partly_written_block_before_a_hole_is_not_padded(mount):
    writer = mount.writer("f")
    writer.write(b"x" * 100)
    reader = mount.reader("f")
    assert reader.read() == b"x" * 100
    held = reader.begin_read(10_000).wait_held()
    writer.pwrite(b"y" * 100, 10 * BLOCK)
    held.stays_held()
    writer.pwrite(b"z" * (10 * BLOCK - 100), 100)
    rest = b"z" * (10 * BLOCK - 100) + b"y" * 100
    assert follow_from(held.result(), reader, len(rest)) == rest


@pytest.mark.parametrize("filled", [9 * BLOCK + 500, 10 * BLOCK, 10 * BLOCK + 500])
def test_what_lies_behind_a_gap_does_not_release_its_rest(mount, filled):
    """In the block that the gap shares with it, when the gap is filled but for less than a block."""
    end = 10 * BLOCK + 2000
    data = b"x" * end + b"y" * 1000
    writer = mount.writer("f")
    writer.pwrite(data[:100], 0)
    writer.pwrite(data[end:], end)
    reader = mount.reader("f")
    assert reader.read() == data[:100]
    held = reader.begin_read().wait_held()
    writer.pwrite(data[100:filled], 100)
    assert follow_from(held.result(), reader, filled - 100) == data[100:filled]
    held = reader.begin_read().wait_held()
    writer.pwrite(data[filled:end], filled)
    assert follow_from(held.result(), reader, len(data) - filled) == data[filled:]
    reader.begin_read().wait_held()


@pytest.mark.parametrize("offset, known", [(0, False), (100, False), (1999, False), (100, True)])
def test_a_read_that_begins_in_the_rest_of_a_gap(mount, offset, known):
    """In the block that the gap shares with what lies behind it; before anybody has met the gap."""
    start, end = 10 * BLOCK + offset, 10 * BLOCK + 2000
    data = b"x" * end + b"y" * 1000
    writer = mount.writer("f")
    if known:
        writer.truncate(20 * BLOCK)
    writer.pwrite(data[:100], 0)
    writer.pwrite(data[end:], end)
    reader = mount.reader("f")
    assert reader.call(os.pread, 4096, end) == data[end:]
    held = reader.begin_pread(4096, start).wait_held()
    writer.pwrite(data[100:end], 100)
    assert data[start:].startswith(held.result())
    assert reader.call(os.pread, 4096, end) == data[end:]


def test_a_partly_written_block_before_a_hole_comes_with_completion(mount):
    writer = mount.writer("f")
    writer.write(b"x" * 100)
    writer.pwrite(b"y" * 100, 10 * BLOCK)
    reader = mount.reader("f")
    whole = b"x" * 100 + bytes(10 * BLOCK - 100) + b"y" * 100
    pending = reader.begin(follow_fd, len(whole)).wait_blocked("read")
    writer.close()
    assert pending.result() == whole
    assert reader.read() == b""


def test_hole_at_completion_reads_as_zeros(mount):
    writer = mount.writer("f")
    writer.pwrite(b"end", 50_000)
    reader = mount.reader("f")
    held = reader.begin_read().wait_held()
    writer.close()
    assert follow_from(held.result(), reader, 50_003) == bytes(50_000) + b"end"
    assert reader.read() == b""
    assert mount.reader("f").read_all() == bytes(50_000) + b"end"


@pytest.mark.parametrize("seed", range(3))
def test_blocks_written_in_any_order_arrive_in_order(mount, seed):
    """As a download in parallel pieces does it."""
    size = 60 * BLOCK + 123
    data = pattern(size, seed)
    order = list(range(0, size, BLOCK))
    random.Random(seed).shuffle(order)
    writer = mount.writer("f")
    writer.truncate(size)
    reader = mount.reader("f")
    pending = reader.begin(follow_fd, size)
    for offset in order:
        writer.pwrite(data[offset:offset + BLOCK], offset)
    writer.close()
    got = pending.result()
    assert got == data, f"seed {seed}: first difference at {first_difference(got, data)}"


def test_a_preallocated_region_is_held_until_written(mount):
    writer = mount.writer("f")
    writer.call(fallocate, 0, 0, 64 * BLOCK)
    assert mount.stat("f").st_size == 64 * BLOCK
    reader = mount.reader("f")
    held = reader.begin_read().wait_held().stays_held()
    data = pattern(64 * BLOCK)
    for offset in range(0, 64 * BLOCK, 8 * BLOCK):
        writer.pwrite(data[offset:offset + 8 * BLOCK], offset)
    assert follow_from(held.result(), reader, len(data)) == data
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


def test_a_preallocated_region_that_was_looked_at_is_still_held(mount):
    """Pages that were merely read count as data for SEEK_DATA."""
    writer = mount.writer("f", os.O_RDWR | os.O_CREAT)
    writer.call(fallocate, 0, 0, 64 * BLOCK)
    assert writer.pread(64 * BLOCK, 0) == bytes(64 * BLOCK)
    with open(mount.stored("f"), "rb") as f:
        assert f.read() == bytes(64 * BLOCK)
    reader = mount.reader("f")
    held = reader.begin_read().wait_held().stays_held()
    with open(mount.stored("f"), "rb") as f:
        f.read()
    held.stays_held()
    writer.pwrite(pattern(32 * BLOCK), 0)
    got = follow_from(held.result(), reader, 31 * BLOCK)
    assert got == pattern(32 * BLOCK)[:len(got)] and len(got) >= 31 * BLOCK
    held = reader.begin_pread(10, 40 * BLOCK).wait_held()
    writer.close()
    assert held.result() == bytes(10)


def test_preallocation_before_the_follower_opens_and_partial_writes(mount):
    writer = mount.writer("f")
    writer.call(fallocate, 0, 0, 256 * BLOCK)
    writer.write(pattern(10 * BLOCK))
    reader = mount.reader("f")
    assert follow(reader, 9 * BLOCK) == pattern(9 * BLOCK)
    held = reader.begin_pread(10, 10 * BLOCK).wait_held()
    writer.write(pattern(2 * BLOCK, 7))
    assert held.result() == pattern(10, 7)
    writer.truncate(12 * BLOCK)
    writer.close()
    assert follow(reader, 3 * BLOCK) == pattern(10 * BLOCK)[9 * BLOCK:] + pattern(2 * BLOCK, 7)
    assert reader.read() == b""


def test_a_gap_takes_back_nothing(mount):
    """Zeros before it that were given out when nothing was behind them."""
    writer = mount.writer("f")
    writer.write(pattern(BLOCK) + bytes(2 * BLOCK))
    assert int(mount.xattr("f", "edge")) == 3 * BLOCK
    writer.pwrite(b"far", 16 * BLOCK)
    assert int(mount.xattr("f", "edge")) == 3 * BLOCK
    assert given(mount) == pattern(BLOCK) + bytes(2 * BLOCK)


def test_preallocation_completed_unwritten_is_zeros(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    writer.call(fallocate, 0, 0, 10 * BLOCK)
    reader = mount.reader("f")
    writer.close()
    assert follow(reader, 10 * BLOCK) == b"hello" + bytes(10 * BLOCK - 5)
    assert reader.read() == b""


def test_preallocation_beyond_the_end_changes_nothing(mount):
    writer = mount.writer("f")
    writer.call(fallocate, KEEP_SIZE, 0, 64 * BLOCK)
    assert mount.stat("f").st_size == 0
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(pattern(5 * BLOCK))
    assert follow_from(held.result(), reader, 5 * BLOCK) == pattern(5 * BLOCK)
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


def test_a_punched_hole_is_held_until_completion(mount):
    writer = mount.writer("f")
    writer.write(pattern(16 * BLOCK))
    reader = mount.reader("f")
    writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, 4 * BLOCK, 4 * BLOCK)
    assert follow(reader, 3 * BLOCK) == pattern(3 * BLOCK)
    held = reader.begin_pread(100, 5 * BLOCK).wait_held()
    assert reader_of(mount).pread(100, 9 * BLOCK) == pattern(16 * BLOCK)[9 * BLOCK:][:100]
    writer.close()
    assert held.result() == bytes(100)
    expected = pattern(4 * BLOCK) + bytes(4 * BLOCK) + pattern(16 * BLOCK)[8 * BLOCK:]
    assert follow(reader, 13 * BLOCK) == expected[3 * BLOCK:]


def reader_of(mount):
    return mount.reader("f")


def test_a_punched_hole_that_is_written_again(mount):
    writer = mount.writer("f")
    writer.write(pattern(16 * BLOCK))
    writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, 4 * BLOCK, 4 * BLOCK)
    held = mount.reader("f").begin_pread(100, 5 * BLOCK).wait_held()
    writer.pwrite(pattern(4 * BLOCK, 9), 4 * BLOCK)
    assert held.result() == pattern(4 * BLOCK, 9)[BLOCK:][:100]


@pytest.mark.parametrize("offset", [BLOCK, 7816, 2 * BLOCK - 1])
def test_a_read_inside_a_hole_does_not_hide_where_it_begins(mount, offset):
    writer = mount.writer("f")
    writer.write(b"x" * 10)
    writer.pwrite(b"y" * 1000, 2 * BLOCK)
    held = mount.reader("f").begin_pread(100, offset).wait_held()
    assert given(mount) == b"x" * 10
    assert mount.xattr("f", "edge") == "10"
    writer.close()
    assert held.result()[:1] == (b"\0" if offset < 2 * BLOCK else b"y")


@pytest.mark.parametrize("prepared", [0, 2 * BLOCK], ids=["empty", "written to"])
def test_preallocation_beyond_the_end_is_held_once_it_is_inside(mount, prepared):
    writer = mount.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(pattern(prepared))
    writer.call(fallocate, KEEP_SIZE, prepared, 256 * BLOCK)
    writer.pwrite(b"x" * 10, prepared)
    writer.pwrite(pattern(BLOCK), 16 * BLOCK)
    with open(mount.stored("f"), "rb") as f:
        assert f.read()[prepared + 10:16 * BLOCK] == bytes(16 * BLOCK - prepared - 10)
    assert given(mount) == pattern(prepared) + b"x" * 10
    held = mount.reader("f").begin_pread(100, 8 * BLOCK).wait_held()
    writer.pwrite(pattern(16 * BLOCK - prepared), prepared)
    assert held.result()
    assert given(mount) == pattern(prepared) + pattern(16 * BLOCK - prepared) + pattern(BLOCK)


def store_can(mount, how):
    """Whether fallocate can do this in the store: tmpfs zeroes no ranges."""
    with open(mount.stored("probe"), "wb") as f:
        try:
            fallocate(f.fileno(), how, 0, BLOCK)
        except OSError as e:
            assert e.errno == errno.EOPNOTSUPP
            return False
    return True


@pytest.mark.parametrize("how, start, length", [
    (0, 0, 2 * BLOCK), (KEEP_SIZE, 0, 2 * BLOCK),
    *((how, *place) for how in (0, KEEP_SIZE, ZERO_RANGE | KEEP_SIZE)
      for place in ((BLOCK, 10), (4 * BLOCK, BLOCK), (5 * BLOCK + 1, 7)))])
def test_preallocation_in_a_hole_gives_nothing_away(mount, how, start, length):
    if not store_can(mount, how):
        pytest.skip("fallocate: the store's filesystem cannot")
    writer = mount.writer("f")
    writer.write(b"x")
    writer.pwrite(pattern(BLOCK), 9 * BLOCK)
    writer.call(fallocate, how, start, length)
    writer.pwrite(b"y" * 100, 3 * BLOCK)
    assert given(mount) == b"x"
    assert mount.xattr("f", "edge") == "1"
    writer.pwrite(pattern(9 * BLOCK), 0)
    assert given(mount) == pattern(9 * BLOCK) + pattern(BLOCK)


@pytest.mark.parametrize("how", [0, ZERO_RANGE])
def test_what_lies_before_space_allocated_behind_the_end_is_a_gap(mount, how):
    if not store_can(mount, how):
        pytest.skip("fallocate: the store's filesystem cannot")
    writer = mount.writer("f")
    writer.write(b"x" * 100)
    writer.call(fallocate, how, 2 * BLOCK, BLOCK)
    assert given(mount) == b"x" * 100
    assert mount.xattr("f", "edge") == "100"


def test_what_is_written_before_space_allocated_further_behind_the_end(mount):
    """It ends within the block before that, and the writer goes on behind."""
    if not store_can(mount, ZERO_RANGE | KEEP_SIZE):
        pytest.skip("fallocate: the store's filesystem cannot")
    writer = mount.writer("f")
    writer.write(pattern(BLOCK))
    writer.call(fallocate, ZERO_RANGE | KEEP_SIZE, 4 * BLOCK, 4 * BLOCK)
    writer.pwrite(pattern(2 * BLOCK) + b"x" * 100, BLOCK)
    writer.pwrite(b"y" * 10, 12 * BLOCK)
    data = pattern(BLOCK) + pattern(2 * BLOCK) + b"x" * 100
    assert follow(mount.reader("f"), len(data)) == data
    held = mount.reader("f").begin_pread(10, len(data)).wait_held()
    writer.pwrite(b"z" * 10, len(data))
    assert held.result() == b"z" * 10


@pytest.mark.parametrize("part", [False, True])
def test_the_block_before_a_punched_one_is_not_padded(mount, part):
    """Nor when the store writes zeros, since only a part of it is punched."""
    writer = mount.writer("f")
    writer.pwrite(pattern(BLOCK), 4 * BLOCK)
    if part:
        assert mount.xattr("f", "edge") == "0"
        writer.pwrite(b"y" * 10, BLOCK + 500)
    writer.write(b"x" * 100)
    writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, *(BLOCK + 500, 10) if part else (BLOCK, BLOCK))
    assert given(mount) == b"x" * 100
    assert mount.xattr("f", "edge") == "100"


def test_what_is_written_into_a_punched_hole_does_not_release_its_block(mount):
    writer = mount.writer("f")
    writer.write(pattern(20_000))
    writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, BLOCK, 3 * BLOCK)
    writer.pwrite(b"x" * 10, BLOCK)
    assert given(mount) == pattern(BLOCK) + b"x" * 10


@pytest.mark.parametrize("how", ["skipped", "punched"])
def test_what_a_cut_leaves_of_a_gap_stays_one(mount, how):
    """Although one block has all of it, and data behind it."""
    writer = mount.writer("f")
    writer.write(pattern(BLOCK if how == "skipped" else 8 * BLOCK))
    if how == "skipped":
        writer.pwrite(b"x", 5 * BLOCK)
    else:
        writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, BLOCK, BLOCK)
    writer.call(os.ftruncate, BLOCK + 904)
    writer.pwrite(pattern(BLOCK), BLOCK + 904)
    assert given(mount) == pattern(BLOCK)
    assert mount.xattr("f", "edge") == str(BLOCK)
    writer.pwrite(pattern(904, 7), BLOCK)
    assert given(mount) == pattern(BLOCK) + pattern(904, 7) + pattern(BLOCK)


def readv_aligned(fd, size):
    """With a buffer that begins a page, so that the kernel cuts the read where it likes best."""
    buffer = mmap.mmap(-1, size)
    return buffer[:os.readv(fd, [buffer])]


def test_a_large_read_that_ends_at_a_hole_brings_what_there_is(mount):
    """The kernel asks in pieces, and a piece that ends at the hole is not waited for."""
    writer = mount.writer("f")
    writer.write(pattern(1 << 20))
    writer.pwrite(b"x", 3 << 20)
    reader = mount.reader("f")
    got = reader.call(readv_aligned, 2 << 20)
    while len(got) < 1 << 20:
        got += reader.read(1 << 20)
    assert got == pattern(1 << 20)
    reader.begin_read().wait_held()


def test_a_filled_gap_is_seen_from_before_it(mount):
    """By one who reads from the beginning again, not by one who waits at the gap."""
    writer = mount.writer("f")
    writer.write(pattern(BLOCK))
    writer.pwrite(pattern(BLOCK, 2), 16 * BLOCK)
    reader = mount.reader("f")
    assert reader.pread(100_000, 0) == pattern(BLOCK)
    writer.pwrite(pattern(15 * BLOCK, 3), BLOCK)
    assert reader.pread(100_000, 0) == pattern(BLOCK) + pattern(15 * BLOCK, 3) + pattern(BLOCK, 2)
