# SPDX-License-Identifier: MIT
"""Reads of a following handle: held at the live edge, answered with what is there, ended truly."""
import collections
import errno
import os
import signal
import time

import pytest

from harness import procs
from harness.agent import File, handle_signal, raw_open, read_exactly
from harness.data import pattern

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

MIB = 1 << 20


@pytest.fixture
def growing(mount):
    """A file of five bytes that is still being written: (mount, writer)."""
    writer = mount.writer("f")
    writer.write(b"hello")
    return mount, writer


def test_read_below_the_edge_answers_with_what_is_there(growing):
    mount, _ = growing
    reader = mount.reader("f")
    assert reader.read(100) == b"hello"


def test_read_at_the_edge_is_held_until_growth(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read(5) == b"hello"
    held = reader.begin_read(100).wait_held()
    assert mount.xattr("f", "readers") == "1"
    writer.write(b" world")
    assert held.result() == b" world"
    assert mount.xattr("f", "readers") == "0"


def test_completion_ends_a_held_read_with_eof(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read(5) == b"hello"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    assert reader.read() == b""
    assert mount.xattr("f", "state") == "complete"


def test_zeros_that_were_written_come_at_once(growing):
    """They look like a hole, or like the end of a block that is not full."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read(5) == b"hello"
    for piece in (b"\0", b"a\0", b"\0" * 4089, b"\0" * 4096, b"\0b" * 10_000, b"c" + b"\0" * 200_000,
                  os.urandom(150_000), b"\0" * 300_000, b"d"):
        held = reader.begin(read_exactly, len(piece)).wait_held()
        writer.write(piece)
        assert held.result() == piece


def follow_together(fd, count, data):
    """Processes that read the same descriptor to the end, as the threads of a server do."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(follow_by_offset(fd, data))
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def follow_by_offset(fd, data):
    """0, or what went wrong: 1 a byte, 2 the end, else an errno."""
    offset = 0
    try:
        while got := os.pread(fd, 65536, offset):
            if got != data[offset:offset + len(got)]:
                return 1
            offset += len(got)
    except OSError as e:
        return e.errno
    return 0 if offset == len(data) else 2


def test_many_read_one_descriptor_of_a_file_that_grows_fast(growing):
    mount, writer = growing
    data = b"hello" + pattern(12 * MIB)
    reader = mount.reader("f")
    together = reader.begin(follow_together, 4, data)
    writer.call(write_in_pieces, data[5:], 3000, timeout=60)
    writer.close()
    assert together.result(60) == [0] * 4


def write_in_pieces(fd, data, size):
    for start in range(0, len(data), size):
        os.write(fd, data[start:start + size])


# -- a file that is still empty: open(2) waits, since an empty file sends sendfile home at once


def begin_open(mount, name="f", flags=os.O_RDONLY):
    pending = mount.agent().begin(os.open, mount.path(name), flags).wait_blocked("openat")
    procs.wait_until(lambda: int(mount.xattr(name, "readers")) > 0, "the open to count as held")
    return pending


def test_opening_an_empty_file_waits_for_its_first_byte(mount):
    writer = mount.writer("f")
    pending = begin_open(mount)
    writer.write(b"x")
    reader = File(pending.agent, mount.path("f"), pending.result(), mount)
    assert mount.xattr("f", "readers") == "0"
    assert reader.read() == b"x"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


def test_an_empty_file_can_complete(mount):
    writer = mount.writer("f")
    pending = begin_open(mount)
    writer.close()
    assert pending.agent.call(os.read, pending.result(), 100) == b""
    assert mount.stat("f").st_size == 0


def test_a_program_may_open_what_it_has_only_just_created(mount):
    agent = mount.agent()
    writer = mount.writer("f", agent=agent)
    reader = mount.reader("f", agent=agent)
    writer.write(b"x")
    assert reader.read() == b"x"
    held = reader.begin_read().wait_held()
    other = mount.open("f", os.O_WRONLY | os.O_APPEND)
    other.write(b"y")
    assert held.result() == b"y"


def test_a_program_may_open_what_many_write(mount):
    writers = [mount.writer("f") for _ in range(20)]
    for writer in writers:
        assert mount.reader("f", agent=writer.agent).stat().st_size == 0


def test_an_empty_file_opened_nonblocking(mount):
    writer = mount.writer("f")
    reader = mount.reader("f", os.O_NONBLOCK)
    assert reader.read() == b""
    writer.write(b"x")
    assert reader.read() == b"x"


def test_waiting_for_the_first_byte_can_be_interrupted(mount):
    writer = mount.writer("f")
    agent = mount.agent()
    agent.call(handle_signal, signal.SIGINT)
    pending = agent.begin(raw_open, mount.path("f")).wait_blocked("openat", "open")
    agent.kill(signal.SIGINT)
    assert pending.errno() == errno.EINTR
    pending = begin_open(mount)
    pending.agent.kill()
    assert pending.agent.wait(2) == -signal.SIGKILL
    mount.wait_readers("f", 0)
    writer.write(b"x")
    assert mount.reader("f").read() == b"x"


def test_many_wait_for_the_first_byte(mount):
    writer = mount.writer("f")
    pending = [mount.agent().begin(os.open, mount.path("f"), os.O_RDONLY) for _ in range(50)]
    mount.wait_readers("f", 50)
    assert mount.stat("f").st_size == 0
    writer.write(b"x")
    for p in pending:
        assert p.agent.call(os.read, p.result(), 10) == b"x"


def open_often(path, stop):
    """How the opens failed, if any did."""
    failed = collections.Counter()
    while time.monotonic() < stop:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as e:
            failed[e.errno] += 1
    return failed


def start_over_often(fd, stop):
    while time.monotonic() < stop:
        os.pwrite(fd, b"x", 0)
        os.ftruncate(fd, 0)
    os.pwrite(fd, b"x", 0)


def test_a_file_that_starts_over_all_the_time_can_be_opened(mount):
    """Whoever was sent back for its size, and then waits since it is empty again, gets in."""
    writer = mount.writer("f")
    stop = time.monotonic() + 1
    opening = [mount.agent().begin(open_often, mount.path("f"), stop) for _ in range(20)]
    writer.call(start_over_often, stop)
    for pending in opening:
        assert not pending.result()


def look_and_seek(path, stop):
    """A stat tells the true size, and so does a seek to the end."""
    wrong = 0
    while time.monotonic() < stop:
        fd = os.open(path, os.O_RDWR)
        wrong += os.stat(path).st_size != 0 or os.lseek(fd, 0, os.SEEK_END) != 0
        os.close(fd)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            os.sendfile(os.open(os.devnull, os.O_WRONLY), fd, 0, 100)
        except OSError:
            pass
        os.close(fd)
    return wrong


def test_an_empty_file_has_no_size(mount):
    writer = mount.writer("f")
    begin_open(mount)
    workers = [mount.agent().begin(look_and_seek, mount.path("f"), time.monotonic() + 0.5)
               for _ in range(3)]
    assert [w.result() for w in workers] == [0, 0, 0]
    assert writer.seek(0, os.SEEK_END) == 0


def test_zero_bytes_are_never_waited_for(growing):
    mount, _ = growing
    reader = mount.reader("f")
    reader.read(5)
    assert reader.read(0) == b""


def test_each_piece_is_delivered_as_soon_as_it_is_written(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    for i in range(50):
        piece = b"%d," % i
        held = reader.begin_read()
        writer.write(piece)
        assert held.result() == piece


def test_size_is_current_for_everybody(growing):
    mount, writer = growing
    reader = mount.reader("f")
    for size in (6, 4096, 4097, 100_000):
        writer.write(b"x" * (size - mount.stat("f").st_size))
        assert mount.stat("f").st_size == size
        assert reader.stat().st_size == size
        assert reader.seek(0, os.SEEK_END) == size


def test_pread_anywhere(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.pread(3, 1) == b"ell"
    held = reader.begin_pread(10, 100).wait_held()
    writer.write(b"x" * 90)
    held.stays_held()
    writer.write(b"y" * 9)  # the file is now 104 bytes
    assert held.result() == b"yyyy"
    held = reader.begin_pread(10, 5000).wait_held()
    writer.close()
    assert held.result() == b""
    assert reader.pread(10, 103) == b"y"


def readv(fd, *sizes):
    buffers = [bytearray(n) for n in sizes]
    got = os.readv(fd, buffers)
    return b"".join(buffers)[:got]


def test_readv(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.call(readv, 2, 2, 2) == b"hello"
    held = reader.begin(readv, 2, 4, 100).wait_held()
    writer.write(b" world")
    assert held.result() == b" world"


@pytest.mark.parametrize("size", [4096, 128 << 10, MIB, 3 * MIB, 3 * MIB + 100])
def test_a_large_buffer_is_not_waited_for(mount, size):
    """The kernel splits a large read; a piece that starts exactly at the edge must not be held."""
    data = pattern(size)
    writer = mount.writer("f")
    writer.write(data)
    reader = mount.reader("f")
    got = b""
    while len(got) < size:
        part = reader.read(5 * MIB)
        assert part
        got += part
    assert got == data
    reader.begin_read().wait_held()


def test_many_small_buffers_are_not_waited_for(mount):
    """Up to 256 of them: more make several requests of the kernel, and the second may be held."""
    data = pattern(256 * 16)
    mount.writer("f").write(data)
    reader = mount.reader("f")
    got = b""
    while len(got) < len(data):
        part = reader.call(readv, *[16] * 256)
        assert part
        got += part
    assert got == data


def read_direct(fd, count):
    import mmap
    with mmap.mmap(-1, count) as buf:
        got = os.readv(fd, [buf])
        return buf[:got]


def test_o_direct_reader(mount):
    writer = mount.writer("f")
    writer.write(pattern(5000))
    reader = mount.reader("f", os.O_DIRECT)
    got = reader.call(read_direct, 4096)
    got += reader.call(read_direct, 4096)
    assert got == pattern(5000)
    held = reader.begin(read_direct, 4096).wait_held()
    writer.close()
    assert held.result() == b""


def test_a_writers_own_reads_are_never_held(mount):
    writer = mount.writer("f", os.O_RDWR | os.O_CREAT)
    assert writer.read() == b""
    writer.write(b"hello")
    assert writer.pread(100, 0) == b"hello"
    assert writer.pread(100, 5) == b""
    other = mount.open("f", os.O_RDWR)
    assert other.read() == b"hello"
    assert other.read() == b""


def test_all_writers_must_close(growing):
    mount, first = growing
    second = mount.open("f", os.O_WRONLY | os.O_APPEND)
    reader = mount.reader("f")
    reader.read()
    assert mount.xattr("f", "writers") == "2"
    held = reader.begin_read().wait_held()
    first.close()
    held.stays_held()
    assert mount.xattr("f", "writers") == "1"
    second.write(b"more")
    assert held.result() == b"more"
    held = reader.begin_read().wait_held()
    second.close()
    assert held.result() == b""


def test_a_duplicated_descriptor_keeps_the_file_growing(growing):
    mount, writer = growing
    copy = writer.call(os.dup)
    writer.close()
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.agent.call(os.write, copy, b"!")
    assert held.result() == b"!"
    held = reader.begin_read().wait_held()
    writer.agent.call(os.close, copy)
    assert held.result() == b""


def fork_that_keeps_descriptors():
    """The child's pid, and the pipe whose closing ends it."""
    get, put = os.pipe()
    pid = os.fork()
    if pid == 0:
        procs.die_with_parent()
        os.close(put)
        os.read(get, 1)
        os._exit(0)
    os.close(get)
    return pid, put


def test_an_inherited_descriptor_keeps_the_file_growing(growing):
    mount, writer = growing
    _, put = writer.agent.call(fork_that_keeps_descriptors)
    writer.close()
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held().stays_held()
    writer.agent.call(os.close, put)
    assert held.result() == b""


def test_killed_writer_releases_its_readers(growing):
    """Whether this end is EOF or an error is another chapter; the reader must not stay."""
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    held = reader.begin_read().wait_held()
    writer.agent.kill()
    assert held.errno() in (0, errno.EIO)


def test_a_following_handle_stays_following(growing):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    writer.close()
    assert reader.read() == b""
    for i in range(3):
        again = mount.open("f", os.O_WRONLY | os.O_APPEND)
        held = reader.begin_read().wait_held()
        again.write(b"again%d" % i)
        assert held.result() == b"again%d" % i
        held = reader.begin_read().wait_held()
        again.close()
        assert held.result() == b""
        assert reader.read() == b""


def test_a_read_of_a_complete_file_is_not_held(mount):
    mount.write_file("f", b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    assert reader.read() == b""
    assert mount.xattr("f", "state") == "complete"


def test_a_plain_reader_stays_plain(mount):
    mount.write_file("f", b"hello")
    reader = mount.reader("f")
    assert reader.read_all() == b"hello"
    writer = mount.open("f", os.O_WRONLY | os.O_APPEND)
    assert mount.xattr("f", "state") == "growing"
    assert reader.read() == b""
    writer.write(b" world")
    assert reader.read() == b" world"
    assert reader.read() == b""


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_opened_for_writing_untouched(mount, flags):
    """An open for writing alone makes a file growing, and its close complete again."""
    mount.write_file("f", b"hello")
    writer = mount.open("f", flags)
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


def test_followed_through_another_link(growing):
    mount, writer = growing
    mount.probe.call(os.link, mount.path("f"), mount.path("g"))
    reader = mount.reader("g")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"


def test_followed_through_a_symlink(growing):
    mount, writer = growing
    mount.probe.call(os.symlink, "f", mount.path("g"))
    reader = mount.reader("g")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"


@pytest.mark.parametrize("fate", ["unlink", "rename", "replaced"])
def test_names_may_change_while_followed(growing, fate):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    held = reader.begin_read().wait_held()
    if fate == "unlink":
        mount.probe.call(os.unlink, mount.path("f"))
    elif fate == "rename":
        mount.probe.call(os.mkdir, mount.path("d"))
        mount.probe.call(os.rename, mount.path("f"), mount.path("d/g"))
    else:
        mount.write_file("other", b"other content")
        mount.probe.call(os.rename, mount.path("other"), mount.path("f"))
    held.stays_held()
    writer.write(b" world")
    assert held.result() == b" world"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    assert reader.pread(100, 0) == b"hello world"
    if fate == "rename":
        assert mount.stored_bytes("d/g") == b"hello world"
    if fate == "replaced":
        assert mount.reader("f").read_all() == b"other content"


def test_unlinked_before_anything_is_read(growing):
    mount, writer = growing
    reader = mount.reader("f")
    mount.probe.call(os.unlink, mount.path("f"))
    writer.write(b" world")
    assert reader.read() == b"hello world"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


def test_a_new_file_under_an_old_name_is_its_own(growing):
    mount, old_writer = growing
    old_reader = mount.reader("f")
    old_reader.read()
    mount.probe.call(os.unlink, mount.path("f"))
    writer = mount.writer("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    writer.write(b"begun")
    reader = mount.reader("f")
    assert reader.read() == b"begun"
    old_held, held = old_reader.begin_read().wait_held(), reader.begin_read().wait_held()
    writer.write(b"new")
    assert held.result() == b"new"
    old_held.stays_held()
    old_writer.write(b"old")
    assert old_held.result() == b"old"


def test_many_readers_of_one_file_wake_together(growing):
    mount, writer = growing
    readers = [mount.reader("f") for _ in range(30)]
    for r in readers:
        assert r.read() == b"hello"
    held = [r.begin_read() for r in readers]
    mount.wait_readers("f", 30)
    started = time.monotonic()
    writer.write(b"now")
    assert [h.result() for h in held] == [b"now"] * 30
    assert time.monotonic() - started < procs.seconds(2)
    held = [r.begin_read() for r in readers]
    mount.wait_readers("f", 30)
    writer.close()
    assert [h.result() for h in held] == [b""] * 30


def test_held_reads_take_no_thread(growing):
    mount, writer = growing
    before = procs.threads(mount.pid)
    readers = [mount.reader("f") for _ in range(60)]
    held = [r.begin_pread(10, 5) for r in readers]
    mount.wait_readers("f", 60)
    assert procs.threads(mount.pid) <= before + 10
    writer.close()
    assert {h.result() for h in held} == {b""}


def test_the_store_is_watched_while_somebody_waits(growing):
    """With passthrough, and once for all who do; without, all that is written passes the daemon."""
    mount, writer = growing
    before = procs.watches(mount.pid)
    reader = mount.reader("f")
    assert reader.read(5) == b"hello"
    writer.write(b" world")
    assert reader.read(6) == b" world"
    assert procs.watches(mount.pid) == before
    held = [r.begin_pread(100, 11) for r in (reader, mount.reader("f"), mount.reader("f"))]
    mount.wait_readers("f", 3)
    assert procs.watches(mount.pid) == before + mount.passthrough
    writer.write(b"!")
    assert {h.result() for h in held} == {b"!"}
    writer.write(b"!")  # nobody waits for this one
    procs.wait_until(lambda: procs.watches(mount.pid) == before, "the watch to be gone")
    reader.begin_pread(100, 13).wait_held()
    assert procs.watches(mount.pid) == before + mount.passthrough
    writer.close()
    procs.wait_until(lambda: procs.watches(mount.pid) == before, "the watch to be gone")


def thread_in(pid, call):
    """The one that sleeps in it."""
    found = [int(tid) for tid in os.listdir(f"/proc/{pid}/task")
             if (procs.syscall(pid, tid) or [None])[0] == procs.SYSCALLS[call]]
    return found[0] if len(found) == 1 else None


def test_growth_is_not_found_by_looking(growing):
    """The thread that looks every now and then is only there for what nobody tells of."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read(5) == b"hello"
    held = reader.begin_read().wait_held()
    with procs.stopped_thread(procs.wait_until(lambda: thread_in(mount.pid, "epoll_wait"), "its sleep")):
        for data in (b" world", b"!"):
            writer.write(data)
            assert held.result() == data
            held = reader.begin_read().wait_held()
        writer.close()
        assert held.result() == b""


def test_facts_are_told_by_hidden_xattrs(growing):
    mount, writer = growing
    told = {key: mount.xattr("f", key) for key in ("state", "edge", "writers", "readers")}
    assert told == {"state": "growing", "edge": "5", "writers": "1", "readers": "0"}
    assert not [x for x in mount.probe.call(os.listxattr, mount.path("f")) if "rww" in x]
    writer.close()
    mount.wait_state("f", "complete")
    assert mount.xattr("f", "writers") == "0"
    assert mount.xattr("f", "edge") == "5"
    assert not os.listxattr(mount.stored("f"))
