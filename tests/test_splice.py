# SPDX-License-Identifier: MIT
"""sendfile, splice, copy_file_range and mmap: never stale bytes, zeros or a silent early end."""
import ctypes
import errno
import mmap
import os
import random
import signal
import socket

import pytest

from harness.data import pattern, pieces

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

REFUSED = (errno.EINVAL, errno.EXDEV)


@pytest.fixture
def growing(mount):
    """104 bytes, a part of a page, still growing."""
    writer = mount.writer("f")
    writer.write(pattern(104))
    return mount, writer


def into_socket(fd, count, offset):
    """sendfile(2) to a socket: the bytes that arrived."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = os.sendfile(ours.fileno(), fd, offset, count)
        return theirs.recv(sent, socket.MSG_WAITALL) if sent else b""


def into_file(fd, count, offset):
    """sendfile(2) to a file in memory."""
    out = os.memfd_create("out")
    sent = os.sendfile(out, fd, offset, count)
    got = os.pread(out, sent, 0)
    os.close(out)
    return got


def into_pipe(fd, count, offset):
    """splice(2)."""
    get, put = os.pipe()
    try:
        sent = os.splice(fd, put, min(count, 65536), offset_src=offset)
        return os.read(get, sent) if sent else b""
    finally:
        os.close(get)
        os.close(put)


def into_copy(fd, count, offset):
    """copy_file_range(2) to a file beside it (the descriptor's own folder)."""
    folder = os.path.dirname(os.readlink(f"/proc/self/fd/{fd}"))
    out = os.open(os.path.join(folder, f"copy.{os.getpid()}"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        sent = os.copy_file_range(fd, out, count, offset, 0)
        return os.pread(out, sent, 0)
    finally:
        os.close(out)


def into_foreign_copy(fd, count, offset):
    """copy_file_range(2) to another filesystem."""
    out = os.memfd_create("out")
    try:
        sent = os.copy_file_range(fd, out, count, offset, 0)
        return os.pread(out, sent, 0)
    finally:
        os.close(out)


ways = pytest.mark.parametrize("way", [into_socket, into_file, into_pipe, into_copy,
                                       into_foreign_copy])


@ways
def test_refused_on_a_following_handle(growing, way):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.errno(way, 4096, 0) in REFUSED
    assert reader.read() == pattern(104), "the caller falls back to read(2)"
    writer.write(b"more")
    assert reader.errno(way, 4096, 104) in REFUSED
    assert reader.read() == b"more"


@ways
def test_no_stale_page_after_an_append(growing, way):
    """A partial page in the FUSE inode's page cache would be delivered padded with zeros."""
    mount, writer = growing
    readers = [mount.reader("f"), mount.reader("f", os.O_NONBLOCK)]
    data = pattern(104)
    for i in range(20):
        for reader in readers:
            for offset in (0, len(data) // 2, max(0, len(data) - 4096), len(data)):
                check_piece(reader, way, data, offset)
        piece = pattern(100 + i * 997, i + 2)
        writer.write(piece)
        data += piece
    writer.close()
    for reader in readers:
        for offset in (0, len(data) // 2, len(data) - 10):
            check_piece(reader, way, data, offset)
        assert reader.pread(len(data), 0) == data


@ways
def test_no_stale_page_after_a_completion_by_hand(growing, way):
    """Its writer may go on."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == pattern(104)
    mount.probe.call(os.setxattr, mount.path("f"), "user.rww.state", b"complete")
    check_piece(reader, way, pattern(104), 0)
    data = pattern(104) + pattern(3000, 2)
    writer.write(data[104:])
    for offset in (0, 104):
        check_piece(reader, way, data, offset)
    writer.close()
    for offset in (0, 104):
        check_piece(reader, way, data, offset)


def check_piece(reader, way, data, offset):
    """Whatever a call delivers is what was written, and no end is told before the live edge.

    At the edge itself the kernel answers 0 from i_size without asking anybody.
    """
    try:
        got = reader.call(way, 8192, offset)
    except OSError as e:
        assert e.errno in REFUSED
        return
    assert data[offset:].startswith(got), f"{len(got)} bytes at {offset} differ"
    assert got or offset >= len(data), f"early end at {offset} of {len(data)}"


@pytest.mark.parametrize("way", [into_socket, into_file, into_pipe, into_copy])
@pytest.mark.parametrize("begin", [b"", b"x"], ids=["emptied", "cut"])
def test_no_continuation_of_a_file_that_started_over(growing, way, begin):
    """It is complete now; whoever had read some of the former one is told by read(2)."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == pattern(104)
    writer.truncate(len(begin))
    writer.pwrite(begin + pattern(20_000, 3), 0)
    writer.close()
    mount.wait_state("f", "complete")
    assert reader.errno(way, 8192, 104) in REFUSED
    assert reader.errno(way, 8192, 16_384) in REFUSED
    assert reader.errno(os.read, 8192) == errno.EIO
    data = begin + pattern(20_000, 3)
    reader.seek(0)
    assert reader.read(100) == data[:100]
    check_piece(reader, way, data, 100)


@pytest.mark.modes("on")
@pytest.mark.parametrize("way", [into_socket, into_file, into_pipe])
def test_a_following_handle_has_no_pages_with_passthrough(growing, way):
    """Not of a complete file either: one who has found a page looks at the size later, when a
    writer may be appending, and delivers the zeros behind the old end."""
    mount, writer = growing
    reader = mount.reader("f")
    writer.close()
    mount.wait_state("f", "complete")
    assert reader.errno(way, 8192, 0) in REFUSED
    assert reader.read_all() == pattern(104)


@ways
def test_right_after_completion(growing, way):
    """A following handle may go on refusing, or deliver every byte."""
    mount, writer = growing
    reader = mount.reader("f")
    reader.errno(way, 4096, 0)
    writer.write(pattern(20_000, 4))
    writer.close()
    mount.wait_state("f", "complete")
    data = pattern(104) + pattern(20_000, 4)
    check_piece(reader, way, data, 0)
    check_piece(reader, way, data, 10_000)
    check_piece(reader, way, data, len(data))
    if way is into_foreign_copy:
        return  # EXDEV on any filesystem
    fresh = mount.reader("f")
    got = b""
    while len(got) < len(data):
        part = fresh.call(way, 8192, len(got))
        assert part
        got += part
    assert got == data
    assert fresh.call(way, 8192, len(data)) == b""


@pytest.mark.parametrize("way", [into_socket, into_file, into_pipe])
def test_right_on_a_plain_handle_of_a_growing_file(growing, mode, way):
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    data = pattern(104)
    for i in range(10):
        try:
            got = reader.call(way, 1 << 20, 0)
        except OSError as e:
            assert mode != "on" and e.errno in REFUSED
            return
        assert got == data[:len(got)] and (len(got) == len(data) or len(got) >= 4096)
        piece = pattern(3000, i)
        writer.write(piece)
        data += piece


@pytest.mark.parametrize("way", [into_file, into_pipe])
def test_a_writer_never_waits_for_a_reader_in_the_page_cache(growing, way):
    """The folio-lock deadlock: a page-cache read held while a write wants to invalidate the page."""
    mount, writer = growing
    for i in range(30):
        readers = [mount.reader("f") for _ in range(3)]
        size = writer.stat().st_size
        pending = [r.begin(way, 8192, offset)
                   for r, offset in zip(readers, (0, size, max(0, size - 50)))]
        for _ in range(5):
            writer.write(pattern(100 + i * 10))
        writer.pwrite(pattern(8192), 0)
        for p in pending:
            assert p.errno(5) in (0, *REFUSED)
        for r in readers:
            r.agent.end()


def splice_tirelessly(fd, rounds):
    """Page-cache reads at the edge, again and again; the errnos that came."""
    seen = set()
    for _ in range(rounds):
        try:
            into_file(fd, 8192, max(0, os.fstat(fd).st_size - 10))
        except OSError as e:
            seen.add(e.errno)
    return seen


def write_tirelessly(fd, rounds):
    for i in range(rounds):
        os.write(fd, b"x" * (1 + i % 300))


def test_writers_and_page_cache_readers_do_not_lock_each_other(growing):
    mount, writer = growing
    pending = [mount.reader("f").begin(splice_tirelessly, 500) for _ in range(4)]
    writer.call(write_tirelessly, 3000, timeout=20)
    for p in pending:
        assert p.result(20) <= set(REFUSED)


# -- mmap


def map_and_look(fd, length, kind):
    with mmap.mmap(fd, length, kind, mmap.PROT_READ) as m:
        return m[:]


class Maps:
    """A mapping that lives on in the agent."""
    kept = []

    @classmethod
    def keep(cls, fd, length, kind):
        # Python refuses a length beyond st_size; the kernel does not.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(None, ctypes.c_size_t(length), mmap.PROT_READ, kind, fd,
                            ctypes.c_long(0))
        if address in (None, ctypes.c_void_p(-1).value):
            err = ctypes.get_errno()
            raise OSError(err, os.strerror(err))
        cls.kept.append(address)

    @classmethod
    def look(cls, length):
        return ctypes.string_at(cls.kept[-1], length)


kinds = pytest.mark.parametrize("kind", [mmap.MAP_SHARED, mmap.MAP_PRIVATE],
                                ids=["shared", "private"])


@kinds
@pytest.mark.modes("on")
def test_mmap_of_a_following_handle_is_coherent_with_the_store(growing, kind):
    mount, writer = growing
    reader = mount.reader("f")
    agent = reader.agent
    reader.call(Maps.keep, 1 << 16, kind)
    data = pattern(104)
    assert agent.call(Maps.look, 104) == data
    for i in range(10):
        piece = pattern(3001, i + 3)
        writer.write(piece)
        data += piece
        assert agent.call(Maps.look, len(data)) == data
    writer.close()
    assert agent.call(Maps.look, len(data)) == data


@pytest.mark.modes("off", "user")
def test_shared_mmap_of_a_following_handle_is_refused(growing):
    mount, _ = growing
    reader = mount.reader("f")
    assert reader.errno(map_and_look, 104, mmap.MAP_SHARED) == errno.ENODEV


@pytest.mark.modes("off", "user")
def test_private_mmap_faults_until_complete(growing):
    mount, writer = growing
    early, late = mount.reader("f"), mount.reader("f")
    early.call(Maps.keep, 104, mmap.MAP_PRIVATE)
    late.call(Maps.keep, 104, mmap.MAP_PRIVATE)
    early.agent.begin(Maps.look, 104)
    assert early.agent.wait() == -signal.SIGBUS
    writer.close()
    mount.wait_state("f", "complete")
    assert late.agent.call(Maps.look, 104) == pattern(104)


@kinds
def test_mmap_of_a_complete_file(mount, kind):
    mount.write_file("f", pattern(50_000))
    assert mount.reader("f").call(map_and_look, 50_000, kind) == pattern(50_000)
    writer = mount.open("f", os.O_WRONLY | os.O_APPEND)
    writer.write(pattern(50_000, 2))
    writer.close()
    mount.wait_state("f", "complete")
    reader = mount.reader("f")
    assert reader.call(map_and_look, 100_000, kind) == pattern(50_000) + pattern(50_000, 2)


def read_at_random(fd, data, until, seed):
    """
    pread(2) anywhere, until the file is at its full size; the first wrong answer. The kernel looks
    at the size after it has found the page (filemap_read), so one may be wrong when it came in the
    moment of a write (tests/helpers/stale.c), and is right the next time.
    """
    rng = random.Random(seed)
    while os.fstat(fd).st_size < until:
        offset, count = rng.randrange(until), rng.randint(1, 6000)
        for _ in range(2):
            got = os.pread(fd, count, offset)
            if got == data[offset:offset + len(got)]:
                break
        else:
            return offset, got, data[offset:offset + len(got)]
    return None


def append_all(fd, pieces):
    for piece in pieces:
        os.write(fd, piece)


def test_no_stale_page_for_those_who_had_it_open_before(mount):
    """Handles of a complete file use the page cache, whose last page an append outdates."""
    data = pattern(60_000)
    for seed in range(4):
        name, start = f"f{seed}", 1000 * seed + 100
        mount.write_file(name, data[:start])
        readers = [mount.reader(name) for _ in range(3)]
        for reader in readers:
            assert reader.pread(100, 0) == data[:100]
        writer = mount.writer(name, os.O_WRONLY | os.O_APPEND)
        looking = [r.begin(read_at_random, data, len(data), seed) for r in readers]
        writer.call(append_all, list(pieces(data[start:], seed, 700)))
        for one in looking:
            assert one.result() is None
        writer.close()
        assert all(reader.pread(len(data), 0) == data for reader in readers)


def splice_in(fd, data):
    """splice(2) into a file, by way of a pipe."""
    source, pipe = os.pipe()
    try:
        os.write(pipe, data)
        return os.splice(source, fd, len(data))
    finally:
        os.close(source)
        os.close(pipe)


def test_a_writer_that_splices_wakes_who_waits(growing):
    """With passthrough the store tells nobody of it."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == pattern(104)
    for i in range(3):
        held = reader.begin_read().wait_held()
        assert writer.call(splice_in, pattern(50, i)) == 50
        assert held.result() == pattern(50, i)
