# SPDX-License-Identifier: MIT
"""Stores that have blocks in reserve, or write zeros of their own, under a follower."""
import contextlib
import fcntl
import mmap
import os
import random
import threading
import time

import pytest

from harness import procs, sandbox
from harness.data import BLOCK, KEEP_SIZE, fallocate, pattern
from harness.following import first_difference, follow, follow_fd, follow_from, given
from harness.tools import Image

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


def check_gap(mount, writer):
    """A gap of 16 blocks behind 16 of the pattern is held until it is filled."""
    data = pattern(40 * BLOCK)
    reader = mount.reader("f")
    assert follow(reader, 16 * BLOCK) == data[:16 * BLOCK]
    held = reader.begin_read().wait_held()
    writer.pwrite(data[32 * BLOCK:], 32 * BLOCK)
    assert writer.pread(16 * BLOCK, 16 * BLOCK) == bytes(16 * BLOCK)
    assert int(mount.xattr("f", "edge")) == 16 * BLOCK
    held.stays_held()
    writer.pwrite(data[16 * BLOCK:24 * BLOCK], 16 * BLOCK)
    got = follow_from(held.result(), reader, 23 * BLOCK - 16 * BLOCK)
    assert got == data[16 * BLOCK:][:len(got)] and len(got) <= 8 * BLOCK
    writer.pwrite(data[24 * BLOCK:32 * BLOCK], 24 * BLOCK)
    writer.close()
    assert got + reader.read_all() == data[16 * BLOCK:]


def test_a_gap_in_space_that_was_reserved_before(mount):
    """By a writer who has closed: its blocks count as data once they were read."""
    first = mount.writer("f")
    first.call(fallocate, KEEP_SIZE, 0, 256 * BLOCK)
    first.write(pattern(16 * BLOCK))
    first.close()
    mount.wait_state("f", "complete")
    check_gap(mount, mount.writer("f", os.O_RDWR))


@pytest.fixture
def reserving(request, mode, base, make_mount):
    """A mount whose store, an xfs or an overlay on one, reserves space behind what is written."""
    if os.geteuid() != 0:
        pytest.skip("root: not running as root")
    store = Image(base, "xfs", 2 << 30, options="allocsize=1m", mkfs=("-q",))
    path = store.path
    if getattr(request, "param", "xfs") == "overlay":
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(store.path, name))
        path = os.path.join(store.path, "merged")
        sandbox.mount("overlay", path, "overlay", 0, f"lowerdir={store.path}/lower,"
                      f"upperdir={store.path}/upper,workdir={store.path}/work")
    os.chmod(path, 0o777)
    mount = make_mount(mode, store=path)
    yield mount
    mount.stop()
    if path != store.path:
        sandbox.umount(path)
    store.end()


def test_a_gap_in_space_that_the_store_reserves_by_itself(reserving):
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(pattern(16 * BLOCK))
    writer.call(os.fsync)
    check_gap(reserving, writer)


def test_a_gap_that_begins_in_reserved_space_and_goes_on_behind_it(reserving):
    """And before it, in the last block that was written to."""
    end = (1 << 20) - BLOCK - 500
    data = pattern(end + 500 + 3 * BLOCK).replace(b"\0", b"x")
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(data[:end])
    writer.call(os.fsync)
    writer.pwrite(b"far", len(data) + BLOCK)
    assert writer.pread(BLOCK + 500, end) == bytes(BLOCK + 500)
    reader = reserving.reader("f")
    assert follow(reader, end) == data[:end]
    assert int(reserving.xattr("f", "edge")) == end
    held = reader.begin_read().stays_held()
    writer.pwrite(data[end:], end)
    assert follow_from(held.result(), reader, len(data) - end) == data[end:]


def test_a_read_that_ends_where_reserved_space_begins(reserving):
    """What pads the block before it was not written."""
    data = pattern(16 * BLOCK + 4000).replace(b"\0", b"x")
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(data)
    writer.call(os.fsync)
    writer.pwrite(b"far", 32 * BLOCK)
    assert writer.pread(15 * BLOCK, 17 * BLOCK) == bytes(15 * BLOCK)
    reader = reserving.reader("f")
    assert reader.pread(BLOCK, 16 * BLOCK) == data[16 * BLOCK:]


@pytest.mark.modes("on")
def test_a_gap_in_reserved_space_that_is_met_in_its_middle(reserving):
    data = pattern(16 * BLOCK + 100).replace(b"\0", b"x")
    writer = reserving.writer("f")
    writer.write(data)
    writer.call(os.fsync)
    writer.pwrite(b"far", 32 * BLOCK)
    reserving.reader("f", os.O_NONBLOCK).pread(15 * BLOCK, 17 * BLOCK)
    reserving.reader("f").begin_pread(80_000, 17 * BLOCK + 2000).wait_held()
    assert given(reserving) == data


@pytest.mark.parametrize("reserving", ["xfs", "overlay"], indirect=True)
def test_zeros_written_to_reserved_space_come_without_others_behind_them(reserving):
    """Once they are on the disk, which is seen to."""
    writer = reserving.writer("f")
    data = pattern(16 * BLOCK) + bytes(32 * BLOCK) + pattern(BLOCK)
    writer.write(data[:16 * BLOCK])
    writer.call(os.fsync)
    reader = reserving.reader("f")
    assert follow(reader, 16 * BLOCK) == data[:16 * BLOCK]
    held = reader.begin_read().wait_held()
    writer.write(data[16 * BLOCK:32 * BLOCK])
    assert follow_from(held.result(), reader, 16 * BLOCK) == bytes(16 * BLOCK)
    writer.call(os.fsync)
    writer.write(data[32 * BLOCK:])
    procs.wait_until(lambda: int(reserving.xattr("f", "edge")) == len(data), "the zeros")
    assert follow(reader, 17 * BLOCK) == data[32 * BLOCK:]


def test_zeros_written_to_preallocated_space_come(reserving):
    """But for the last block of them, with passthrough."""
    writer = reserving.writer("f")
    writer.call(fallocate, 0, 0, 64 * BLOCK)
    data = pattern(BLOCK) + bytes(8 * BLOCK)
    writer.write(data)
    reader = reserving.reader("f")
    assert follow(reader, 8 * BLOCK) == data[:8 * BLOCK]
    if not reserving.passthrough:
        assert follow(reader, BLOCK) == data[8 * BLOCK:]
    held = reader.begin_read().stays_held()
    writer.write(bytes(BLOCK))
    assert held.result() == bytes(BLOCK)


@pytest.mark.modes("on")
def test_zeros_that_reach_the_disk_while_they_are_looked_at(reserving):
    """They were in doubt, and a moment later are written: no gap that would be remembered."""
    writer = reserving.writer("f")
    writer.write(b"x" * BLOCK)
    writer.call(os.fsync)
    with open(reserving.stored("f"), "rb") as stored:
        for k in range(3000):
            end = (2 + k) * BLOCK
            writer.write(bytes(BLOCK))
            syncing = threading.Thread(target=os.fdatasync, args=(stored.fileno(),))
            syncing.start()
            while syncing.is_alive():
                reserving.xattr("f", "edge")
            syncing.join()
            procs.wait_until(lambda: int(reserving.xattr("f", "edge")) == end, "the zeros")


@pytest.mark.modes("on")
@pytest.mark.parametrize("blocks", [3, 15.5])
def test_a_read_that_begins_in_zeros_that_wait_for_the_disk(reserving, blocks):
    """All of them come, not all but the last block."""
    writer = reserving.writer("f")
    writer.write(b"x" * BLOCK)
    writer.call(os.fsync)
    writer.write(bytes(16 * BLOCK))
    reader = reserving.reader("f")
    offset = int((1 + blocks) * BLOCK)
    while offset < 17 * BLOCK:
        part = reader.pread(17 * BLOCK - offset, offset)
        assert part == bytes(len(part))
        offset += len(part)


@pytest.mark.modes("on")
@pytest.mark.parametrize("reserving", ["xfs", "overlay"], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_zeros_and_others_that_are_appended_come_whole_from_anywhere(reserving, seed):
    rng = random.Random(seed)
    for n in range(20):
        writer = reserving.writer(f"f{n}")
        data = b""
        for _ in range(rng.randrange(3, 20)):
            size = rng.choice((BLOCK, 3 * BLOCK, 16 * BLOCK, rng.randrange(1, 300),
                               rng.randrange(1, 60_000)))
            zeros = rng.choice((0, 0, size // 2, size))
            part = bytes(zeros) + pattern(size, len(data))[zeros:]
            writer.write(part)
            data += part
            if rng.random() < 0.1:
                writer.call(os.fsync)
            offset = rng.choice((0, rng.randrange(len(data)), len(data) // BLOCK * BLOCK,
                                 rng.randrange(len(data)) // BLOCK * BLOCK))
            reader = reserving.reader(f"f{n}", agent=writer.agent)
            while offset < len(data):
                got = reader.pread(70_000, offset)
                assert got == data[offset:offset + len(got)]
                offset += len(got)
            reader.close()
        writer.close()


def test_zeros_that_are_cut_before_they_reach_the_disk_come(reserving):
    """What is left of them, which a gap before the cut would not."""
    writer = reserving.writer("f")
    writer.write(b"x" * BLOCK)
    writer.call(os.fsync)
    writer.write(bytes(32 * BLOCK))
    writer.truncate(17 * BLOCK)
    assert follow(reserving.reader("f"), 17 * BLOCK) == b"x" * BLOCK + bytes(16 * BLOCK)
    writer.pwrite(b"y", 20 * BLOCK)
    writer.truncate(19 * BLOCK)
    writer.write(b"z" * 10)
    reserving.reader("f").begin_pread(100, 18 * BLOCK).wait_held()


@pytest.mark.modes("on")
def test_zeros_written_to_reserved_space_come_by_http(reserving, serve):
    """Not a second later each time, when the server looks anyhow."""
    writer = reserving.writer("f")
    writer.write(b"x" * BLOCK)
    writer.call(os.fsync)
    response = serve(reserving.mnt).request("/f")
    response.exactly(BLOCK)
    started = time.monotonic()
    for _ in range(20):
        writer.write(bytes(16 * BLOCK))
        assert response.exactly(16 * BLOCK) == bytes(16 * BLOCK)
    assert time.monotonic() - started < procs.seconds(10)
    writer.close()
    assert response.rest() == b""


@pytest.mark.modes("on")
def test_a_read_that_begins_behind_a_gap_that_is_read_ahead(reserving):
    """Which makes data of it, while it is looked for."""
    for n in range(40):
        writer = reserving.writer(f"f{n}")
        far = (20 + 3 * n) * BLOCK
        writer.write(pattern(BLOCK))
        writer.call(os.fsync)
        writer.pwrite(pattern(3 * BLOCK), far)
        if n % 2:
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("1")
        writer.pwrite(b"x", far + 5 * BLOCK + 2000)
        reader = reserving.reader(f"f{n}", agent=writer.agent)
        reader.call(fcntl.fcntl, fcntl.F_SETFL, os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            reader.pread(100, far + 5 * BLOCK + 500)
        writer.close()


@pytest.mark.parametrize("reserving", ["xfs", "overlay"], indirect=True)
@pytest.mark.parametrize("filled", [100, BLOCK, 5 * BLOCK + 100])
def test_a_gap_that_is_read_before_anybody_follows(reserving, filled):
    data = pattern(32 * BLOCK) + b"far"
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(data[:16 * BLOCK])
    writer.call(os.fsync)
    writer.pwrite(b"far", 32 * BLOCK)
    assert writer.pread(16 * BLOCK, 16 * BLOCK) == bytes(16 * BLOCK)
    assert given(reserving) in (data[:16 * BLOCK], data[:15 * BLOCK])
    writer.pwrite(data[16 * BLOCK:16 * BLOCK + filled], 16 * BLOCK)
    got = given(reserving)
    assert got == data[:len(got)] and len(got) <= 16 * BLOCK + filled
    held = reserving.reader("f").begin_pread(100, 24 * BLOCK).wait_held().stays_held()
    writer.pwrite(data[16 * BLOCK + filled:32 * BLOCK], 16 * BLOCK + filled)
    assert held.result() == data[24 * BLOCK:][:100]
    assert follow(reserving.reader("f"), len(data)) == data


@pytest.mark.modes("on")
@pytest.mark.parametrize("reserving", ["xfs", "overlay"], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_in_pairs_the_second_one_first(reserving, seed):
    """The daemon reads about the gaps itself, and ahead, while they are filled."""
    rng = random.Random(seed)
    reader = reserving.agent()
    for n in range(30):
        cuts = [0]
        while len(cuts) < 60:
            cuts.append(cuts[-1] + rng.choice((BLOCK, 2 * BLOCK, 16 * BLOCK)))
        data = bytearray(pattern(cuts[-1], seed + n))
        for start in cuts[::5]:
            data[start:start + BLOCK] = bytes(len(data[start:start + BLOCK]))
        pieces = list(zip(cuts, cuts[1:]))
        pieces[:-1:2], pieces[1::2] = pieces[1::2], pieces[:-1:2]
        writer = reserving.writer(f"f{n}")
        held = None
        for start, end in pieces:
            writer.pwrite(bytes(data[start:end]), start)
            if not held:  # an open waits for the first byte
                held = reserving.reader(f"f{n}", agent=reader).begin(follow_fd, len(data) + 1)
            if rng.random() < 0.2:
                writer.call(os.fdatasync)
        writer.close()
        got = held.result()
        assert got == data, f"file {n}: first difference at {first_difference(got, data)}"


@pytest.mark.modes("on")
def test_a_gap_beside_a_block_that_was_shared(reserving):
    """The store has blocks in reserve there, for copies on write, and says nothing of them."""
    data = pattern(2 * BLOCK).replace(b"\0", b"x")
    reserving.write_file("source", data)
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    source = reserving.reader("source", 0, writer.agent)
    assert source.call(os.copy_file_range, writer.fd, 2 * BLOCK) == 2 * BLOCK
    writer.pwrite(data[:BLOCK], BLOCK)
    writer.pwrite(b"far", 40 * BLOCK)
    assert reserving.reader("f", os.O_NONBLOCK).pread(38 * BLOCK, 2 * BLOCK) == bytes(38 * BLOCK)
    assert given(reserving) == data[:BLOCK] * 2


@pytest.mark.modes("on")
@pytest.mark.parametrize("skipped, filled", [(0, 1), (0, 5), (0, 9), (4, 1), (4, 5)])
def test_a_block_that_is_written_releases_no_others(reserving, skipped, filled):
    """What was read of a gap is in the cache in large pieces, each of which is dirty as a whole."""
    data = pattern(64 * BLOCK).replace(b"\0", b"x")
    writer = reserving.writer("f")
    writer.write(data[:16 * BLOCK])
    writer.call(os.fsync)
    writer.pwrite(b"far", 64 * BLOCK)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("1")
    plain = reserving.reader("f", os.O_NONBLOCK)
    for offset in range(0, 8192, 1000):  # one by one, as who reads ahead likes it
        plain.pread(1000, offset)
    plain.pread(131_072, 4096)
    plain.pread(48 * BLOCK, 16 * BLOCK)
    end = 16 + skipped + filled
    for block in [*range(16 + skipped, end), *range(16, 16 + skipped)]:
        writer.pwrite(data[block * BLOCK:(block + 1) * BLOCK], block * BLOCK)
    reader = reserving.reader("f")
    assert follow(reader, end * BLOCK) == data[:end * BLOCK]
    assert int(reserving.xattr("f", "edge")) == end * BLOCK
    held = reader.begin_read(BLOCK).stays_held()
    writer.pwrite(data[end * BLOCK:], end * BLOCK)
    assert follow_from(held.result(), reader, (64 - end) * BLOCK) == data[end * BLOCK:]


@pytest.mark.modes("on")
@pytest.mark.parametrize("at, far", [(0, 20), (1, 32), (3, 24)])
def test_a_gap_that_is_in_the_cache_together_with_what_was_written(reserving, far, at):
    data = pattern(64 * BLOCK).replace(b"\0", b"x")
    writer = reserving.writer("f")
    writer.write(data[:16 * BLOCK])
    writer.call(os.fsync)
    writer.pwrite(data[far * BLOCK:], far * BLOCK)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("1")
    plain = reserving.reader("f", os.O_NONBLOCK)
    plain.call(os.posix_fadvise, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    for offset in range(0, 8192, 1000):
        plain.pread(1000, offset)
    plain.pread(131_072, 4096)
    plain.pread(48 * BLOCK, 16 * BLOCK)
    writer.pwrite(data[(16 + at) * BLOCK:(17 + at) * BLOCK], (16 + at) * BLOCK)
    reader = reserving.reader("f")
    end = (16 if at else 17) * BLOCK
    assert follow(reader, end) == data[:end]
    assert int(reserving.xattr("f", "edge")) == end
    held = reader.begin_read(BLOCK).stays_held()
    writer.pwrite(data[16 * BLOCK:far * BLOCK], 16 * BLOCK)
    assert follow_from(held.result(), reader, 64 * BLOCK - end) == data[end:]


def store_through_mapping(fd, data, offset):
    with mmap.mmap(fd, 0) as m:
        m[offset:offset + len(data)] = data


@pytest.mark.modes("on")
def test_a_byte_stored_through_a_mapping_releases_no_others(reserving):
    """What was read of a gap is in the cache in large pieces, each of which is data as a whole."""
    data = pattern(500_001).replace(b"\0", b"x")
    writer = reserving.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(data[:5000])
    writer.truncate(1 << 20)
    plain = reserving.reader("f", os.O_NONBLOCK)
    for offset in range(0, 8192, 1000):
        plain.pread(1000, offset)
    plain.pread(131_072, 4096)
    writer.pwrite(data[5000:500_000], 5000)
    writer.call(store_through_mapping, data[500_000:], 500_000)
    reader = reserving.reader("f")
    assert follow(reader, len(data)) == data
    assert int(reserving.xattr("f", "edge")) == len(data)
    reader.begin_read().stays_held()


@pytest.fixture
def on_image(mode, base, make_mount):
    """Makes a mount of a filesystem in an image: on_image(kind, size, mkfs, options)."""
    if os.geteuid() != 0:
        pytest.skip("root: not running as root")
    with contextlib.ExitStack() as made:
        def make(kind, size, *mkfs, options=""):
            store = Image(base, kind, size, options=options, mkfs=("-q", *mkfs))
            made.callback(store.end)
            os.chmod(store.path, 0o777)
            mount = make_mount(mode, store=store.path)
            made.callback(mount.stop)
            return mount
        yield make


@pytest.mark.modes("on")
def test_zeros_that_the_store_writes_itself_are_none(on_image):
    """Beside what is written to preallocated space, to have fewer extents."""
    mount = on_image("ext4", 20 << 20, "-b", "4096", options="nodelalloc")
    writer = mount.writer("f")
    writer.call(fallocate, 0, 0, 16 * BLOCK)
    data = pattern(9 * BLOCK).replace(b"\0", b"x")
    writer.pwrite(data[8 * BLOCK:], 8 * BLOCK)
    writer.call(os.fsync)
    writer.pwrite(data[:8 * BLOCK], 0)
    assert given(mount) == data


@pytest.mark.modes("on")
def test_zeros_that_btrfs_writes_behind_an_old_end_are_none(on_image):
    """When a file grows past it, and in what was a hole."""
    mount = on_image("btrfs", 120 << 20)
    writer = mount.writer("f")
    writer.truncate(2 * BLOCK + 100)
    writer.pwrite(b"y" * 10, 8 * BLOCK)
    mount.reader("f").begin_pread(1, 4 * BLOCK).wait_held()
    writer.pwrite(pattern(BLOCK) + b"x" * 100, 0)
    assert given(mount) == pattern(BLOCK) + b"x" * 100


@pytest.mark.modes("on")
@pytest.mark.parametrize("how", ["ftruncate", "fallocate", "cut"])
def test_zeros_that_btrfs_writes_behind_the_end_of_a_gap_are_none(on_image, how):
    """Nobody looks until all that is behind them is filled, and all that is before them."""
    mount = on_image("btrfs", 120 << 20)
    writer = mount.writer("f")
    if how == "fallocate":
        writer.call(os.posix_fallocate, 0, 2 * BLOCK + 100)
    else:
        writer.truncate((2 if how == "ftruncate" else 20) * BLOCK + 100)
        writer.truncate(2 * BLOCK + 100)
    writer.pwrite(b"y" * 10, 8 * BLOCK)
    writer.pwrite(b"z" * (5 * BLOCK), 3 * BLOCK)
    data = pattern(2 * BLOCK).replace(b"\0", b"x") + b"x" * 100
    writer.pwrite(data, 0)
    assert given(mount) == data
    held = mount.reader("f").begin_pread(10, 2 * BLOCK + 100).wait_held()
    writer.pwrite(b"w" * (BLOCK - 100), 2 * BLOCK + 100)
    assert held.result() == b"w" * 10
    data += b"w" * (BLOCK - 100) + b"z" * (5 * BLOCK) + b"y" * 10
    assert follow(mount.reader("f"), len(data)) == data


@pytest.mark.modes("on")
def test_gaps_of_small_blocks_within_a_page(on_image):
    mount = on_image("ext4", 20 << 20, "-b", "1024")
    data = pattern(100_000).replace(b"\0", b"x")
    writer = mount.writer("f")
    writer.write(data[:2048])
    writer.pwrite(data[6144:], 6144)
    writer.call(os.fsync)
    reader = mount.reader("f")
    assert reader.pread(80_000, 6500) == data[6500:86_500]
    writer = mount.writer("g")
    writer.write(data[:1000])
    writer.truncate(9 * BLOCK)
    writer.pwrite(bytes(100) + data[:5000], 5120)
    reader = mount.reader("g")
    assert reader.pread(4200, 0)[:1000] == data[:1000]
