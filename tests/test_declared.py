# SPDX-License-Identifier: MIT
"""A declared size is a promise: a read below it is held or fails, it is never short."""
import errno
import mmap
import os
import subprocess
import threading
import time

import pytest

from harness import procs
from harness.agent import read_exactly
from harness.data import pattern
from harness.mount import BINARY
from harness.sidebyside import USER
from harness.tools import file_sha256, produce, sha256

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

SIZE = 100_000
DATA = pattern(SIZE)


def declare(mount, size, name="f", agent=None):
    return (agent or mount.probe).errno(os.setxattr, mount.path(name), "user.rww.size",
                                        str(size).encode())


@pytest.fixture
def declared(mount):
    """(mount, writer) of a file of which a part is written and the size declared."""
    writer = mount.writer("f")
    writer.write(DATA[:1000])
    assert declare(mount, SIZE) == 0
    return mount, writer


def test_st_size_is_the_promise(declared):
    mount, writer = declared
    reader = mount.reader("f")
    for size in (mount.stat("f").st_size, reader.stat().st_size, reader.seek(0, os.SEEK_END)):
        assert size == SIZE
    assert mount.xattr("f", "size") == str(SIZE)
    assert mount.xattr("f", "edge") == "1000"
    assert os.path.getsize(mount.stored("f")) == 1000, "it is kept beside the file"
    writer.write(DATA[1000:2000])
    assert mount.stat("f").st_size == SIZE
    assert mount.xattr("f", "edge") == "2000"


def test_progress_tells_all_at_once(declared):
    def progress():
        text, *times = mount.xattr("f", "progress").rsplit(" ", 2)
        st = os.stat(mount.stored("f"))
        assert times == [f"{ns // 10**9}.{ns % 10**9:09}"
                         for ns in (st.st_ctime_ns, written or st.st_mtime_ns)]
        return text

    mount, writer = declared
    written = None
    assert progress() == f"growing 1000 {SIZE} 0"
    writer.call(os.posix_fallocate, 0, 8000)
    writer.truncate(1000)
    assert progress() == f"growing 1000 {SIZE} 0", "nobody had been told of more"
    writer.truncate(400)
    writer.pwrite(DATA[:600], 0)
    assert progress() == f"growing 600 {SIZE} 1"
    writer.pwrite(b"x" * (SIZE + 1), 0)
    assert progress() == f"growing {SIZE + 1} - 1", "the promise was not kept"
    writer.call(os.utime, (1, 1))
    assert progress() == f"growing {SIZE + 1} - 1"
    reader = mount.reader("f")
    writer.close()
    mount.wait_state("f", "complete")  # who sets times before has written to it
    written = 10**9
    reader.call(os.utime, (2, 2))
    assert progress() == f"complete {SIZE + 1} - 1"
    reader.close()


def test_who_was_told_of_bytes_that_are_gone_does_not_wait_for_them(declared):
    """As a server may read: below an edge that it was told, through a handle that shall not wait."""
    mount, writer = declared
    reader = mount.reader("f", os.O_NONBLOCK)
    assert mount.xattr("f", "progress").startswith("growing 1000 ")
    writer.truncate(0)
    assert reader.errno(os.pread, 1000, 0) == errno.EIO
    later = mount.reader("f", os.O_NONBLOCK).begin_pread(1000, 0).wait_held()
    writer.pwrite(DATA[:1000], 0)
    assert later.result() == DATA[:1000]


def test_who_asks_for_a_plain_handle_is_not_held(declared):
    """As rww-httpd reads."""
    mount, writer = declared
    reader = mount.reader("f", os.O_NONBLOCK | os.O_SYNC)
    assert reader.stat().st_size == SIZE
    for offset in (0, 1000):
        assert reader.read(SIZE) == DATA[offset:offset + 1000]
        assert reader.read(SIZE) == b""
        assert reader.errno(os.pread, 100, SIZE - 10) == 0
        writer.write(DATA[offset + 1000:offset + 2000])
    writer.close()
    mount.wait_state("f", "aborted")
    assert mount.reader("f", os.O_NONBLOCK | os.O_SYNC).errno(os.pread, 100, 3000) == errno.EIO


def test_who_asks_for_a_plain_handle_of_an_aborted_file_is_not_held(mount):
    """Nor when somebody then goes on with it."""
    mount.writer("f").close()
    mount.abort("f")
    reader = mount.reader("f", os.O_NONBLOCK | os.O_SYNC)
    writer = mount.writer("f", os.O_WRONLY | os.O_APPEND)
    assert mount.xattr("f", "state") == "growing"
    assert reader.errno(os.pread, 1, 0) == errno.EIO
    writer.write(b"x")
    assert reader.read() == b"x"
    writer.close()


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK], ids=["blocking", "nonblocking"])
def test_reads_below_it_are_held(declared, flags):
    mount, writer = declared
    reader = mount.reader("f", flags)
    assert reader.read(1000) == DATA[:1000]
    held = reader.begin_read().wait_held()
    writer.write(DATA[1000:])
    got = held.result()
    got += reader.call(read_exactly, SIZE - 1000 - len(got))
    assert got == DATA[1000:]
    writer.close()
    mount.wait_state("f", "complete")
    assert reader.read() == b""
    assert mount.stat("f").st_size == SIZE


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK], ids=["blocking", "nonblocking"])
def test_a_short_close_aborts(declared, flags):
    mount, writer = declared
    reader = mount.reader("f", flags)
    assert reader.read(1000) == DATA[:1000]
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.errno() == errno.EIO
    mount.wait_state("f", "aborted")
    assert mount.xattr("f", "reason")
    late = mount.reader("f")
    assert late.read(1000) == DATA[:1000]
    assert late.errno(os.read, 100) == errno.EIO


def test_declared_before_the_first_byte(mount):
    writer = mount.writer("f")
    assert declare(mount, SIZE) == 0
    pending = mount.agent().begin(copy_of, mount.path("f"))
    for offset in range(0, SIZE, 7919):
        writer.write(DATA[offset:offset + 7919])
    writer.close()
    assert pending.result() == DATA


def copy_of(path):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    return read_exactly(fd, size)


def test_who_goes_on_with_an_aborted_file_finds_its_end(declared):
    """It showed the declared size, which is not where its bytes end."""
    mount, writer = declared
    writer.close()
    mount.wait_state("f", "aborted")
    assert mount.stat("f").st_size == SIZE
    again = mount.writer("f", os.O_RDWR)
    assert again.seek(0, os.SEEK_END) == again.stat().st_size == 1000
    again.write(DATA[1000:2000])
    again.close()
    mount.wait_state("f", "complete")
    assert mount.reader("f").read_all() == DATA[:2000]


def test_writing_more_withdraws_it(declared):
    mount, writer = declared
    reader = mount.reader("f")
    writer.write(DATA[1000:] + b"more")
    procs.wait_until(lambda: mount.stat("f").st_size == SIZE + 4, "the true size")
    assert reader.call(read_exactly, SIZE + 4) == DATA + b"more"
    assert mount.probe.errno(os.getxattr, mount.path("f"), "user.rww.size") == errno.ENODATA
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    mount.wait_state("f", "complete")


@pytest.mark.parametrize("size", [0, 50])
def test_written_more_and_then_cut(mount, size):
    """It is withdrawn by what was written, whether anybody looked then or not."""
    writer = mount.writer("f")
    mount.declare("f", 100)
    writer.write(bytes(150))
    writer.truncate(size)
    writer.close()
    mount.wait_state("f", "complete")
    assert mount.stat("f").st_size == size


def test_programs_that_trust_st_size_get_everything(mount):
    """The ones that a growing file would cheat, on an ordinary mount."""
    writer = mount.writer("f")
    writer.write(DATA[:1000])
    assert declare(mount, SIZE) == 0
    out, source = os.path.join(mount.run, "out"), mount.path("f")
    commands = {"tar": f"tar -C {mount.mnt} -cf - f | tar -xOf - > {out}.tar",
                "rsync": f"rsync --whole-file {source} {out}.rsync",
                "gzip": f"gzip -c {source} | gzip -dc > {out}.gzip",
                "curl": f"curl -sS -o {out}.curl file://{source}",
                "cp": f"cp {source} {out}.cp", "cat": f"cat {source} > {out}.cat",
                "tail": f"tail -c 10 {source} > {out}.tail"}
    programs = {n: mount.popen(["sh", "-c", c], stderr=subprocess.PIPE) for n, c in commands.items()}
    produce(writer, DATA[1000:], 0.5)
    writer.close()
    for name, program in programs.items():
        _, err = program.communicate(timeout=procs.seconds(20))
        if name == "tar":  # it says that the mtime moved, and it did
            assert err in (b"", b"tar: f: file changed as we read it\n"), err
        else:
            assert program.returncode == 0 and not err, f"{name}: {err}"
        expected = DATA[-10:] if name == "tail" else DATA
        assert file_sha256(f"{out}.{name}") == sha256(expected), name


def watch_progress(fd):
    """What user.rww.progress says of state and declared size until the file is complete."""
    seen = set()
    while ("complete", "-") not in seen:
        state, _, declared, *_ = os.getxattr(fd, "user.rww.progress").decode().split()
        seen.add((state, declared))
    return seen


def test_progress_is_of_one_moment(mount):
    """Who took a file for growing and not declared any more would cut its followers."""
    agents = [mount.agent() for _ in range(2)]
    for i in range(100):
        writer = mount.writer(f"f{i}", agent=mount.probe)
        writer.write(b"a")
        assert declare(mount, 3, f"f{i}", mount.probe) == 0
        readers = [mount.reader(f"f{i}", agent=agent) for agent in agents]
        watching = [reader.begin(watch_progress) for reader in readers]
        writer.write(b"bc")
        writer.close()
        for one in watching:
            assert one.result() <= {("growing", "3"), ("complete", "-")}
        for reader in readers:
            reader.close()


def sendfile_some(path):
    fd = os.open(path, os.O_RDONLY)
    return os.sendfile(os.memfd_create("out"), fd, 0, SIZE)


def test_sendfile_is_refused(declared):
    """A page that is waited for is locked: stat(2) and open(2) would wait for it, unkillably."""
    mount, writer = declared
    assert mount.agent().errno(sendfile_some, mount.path("f")) == errno.EINVAL
    writer.write(DATA[1000:-1])
    assert mount.agent().errno(sendfile_some, mount.path("f")) == errno.EINVAL
    writer.write(DATA[-1:])
    writer.close()
    mount.wait_state("f", "complete")
    assert mount.agent().call(sendfile_some, mount.path("f")) == SIZE


def find_zeros(fd, seconds):
    """Where fd has a zero that stays, while others ask for the size; or None."""
    over, found = time.monotonic() + seconds, []

    def look():
        while not found and time.monotonic() < over:
            os.fstat(fd)
            try:
                at = os.pread(fd, 5000, 0).find(b"\0")
                if at >= 0 and all(os.pread(fd, 1, at) == b"\0" for _ in range(3)):
                    found.append(at)
            except OSError as e:
                assert e.errno == errno.EIO
    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[0] if found else None


@pytest.mark.modes("off", "user")
def test_no_zeros_for_who_had_it_open_before(mount):
    """The page cache, in which the last page is filled with them, up to what is declared."""
    mount.write_file("f", b"x" * 100)
    reader = mount.reader("f")
    assert reader.call(os.pread, 5000, 0) == b"x" * 100
    writer = mount.writer("f", os.O_WRONLY | os.O_APPEND)
    mount.declare("f", 4000)
    assert reader.call(find_zeros, 2) is None
    writer.write(b"y" * 3900)
    assert reader.call(os.pread, 5000, 0) == b"x" * 100 + b"y" * 3900


@pytest.mark.modes("off")
def test_who_had_it_open_before_reads_nothing_that_was_cut(mount):
    """Nor from the page cache: the kernel is told of a size that is as large as before."""
    mount.write_file("f", DATA)
    reader = mount.reader("f")
    writer = mount.open("f", os.O_WRONLY)
    mount.declare("f", SIZE)
    assert reader.pread(SIZE, 0) == DATA
    writer.truncate(50_000)
    assert mount.stat("f").st_size == SIZE
    assert reader.errno(os.pread, 10, 60_000) == errno.EIO
    assert reader.pread(10_000, 0) == DATA[:10_000]


@pytest.mark.modes("off", "user")
def test_shared_mmap_is_refused(declared):
    mount, _ = declared
    reader = mount.reader("f")
    assert reader.errno(map_shared, 1000) == errno.ENODEV


def map_shared(fd, length):
    with mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ) as m:
        return m[:]


@pytest.mark.parametrize("size, err", [
    ("999", errno.ERANGE), ("0", errno.ERANGE), (str(2**63), errno.EFBIG), ("99999999999999999999999", errno.EFBIG),
    ("-1", errno.EINVAL), ("many", errno.EINVAL), ("", errno.EINVAL), ("2000 ", errno.EINVAL), ("1e6", errno.EINVAL),
    ("0x1000", errno.EINVAL)])
def test_nonsense_is_refused(mount, size, err):
    writer = mount.writer("f")
    writer.write(DATA[:1000])
    assert declare(mount, size) == err
    assert mount.stat("f").st_size == 1000
    writer.close()
    mount.wait_state("f", "complete")


def test_only_growing_files_take_one(mount):
    mount.write_file("f", b"hello")
    assert declare(mount, 100) == errno.EPERM
    assert mount.stat("f").st_size == 5
    mount.probe.call(os.mkdir, mount.path("d"))
    assert declare(mount, 100, "d") == errno.EOPNOTSUPP


@pytest.mark.modes("on", "off")
def test_only_who_may_write_declares(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    assert declare(mount, 100, agent=mount.agent(uid=USER)) in (errno.EACCES, errno.EPERM)
    assert mount.stat("f").st_size == 5


def test_declared_again(declared):
    """A better guess replaces the promise; what is written is all there then."""
    mount, writer = declared
    reader = mount.reader("f")
    reader.read(1000)
    held = reader.begin_read().wait_held()
    assert declare(mount, 2 * SIZE) == 0
    assert mount.stat("f").st_size == 2 * SIZE
    held.stays_held()
    assert declare(mount, 1000) == 0
    assert mount.stat("f").st_size == 1000
    writer.close()
    assert held.result() == b""
    mount.wait_state("f", "complete")


def test_who_begins_anew_is_not_bound_by_it(declared):
    """Nor if the writer before has closed, and that is not handled yet when the next one opens."""
    mount, writer = declared
    again = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    assert again.stat().st_size == mount.stat("f").st_size == 0
    again.write(b"hello")
    writer.close()
    again.close()
    mount.wait_state("f", "complete")
    assert mount.reader("f").read() == b"hello"


@pytest.mark.options("linger=1000")
def test_a_file_that_lingers_without_a_byte_binds_nobody(mount):
    writer = mount.writer("f")
    assert declare(mount, SIZE) == 0
    writer.close()
    procs.wait_until(lambda: mount.xattr("f", "writers") == "0", "the close to be handled")
    assert mount.xattr("f", "state") == "growing"
    again = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    assert again.stat().st_size == 0
    assert mount.probe.errno(os.getxattr, mount.path("f"), "user.rww.size") == errno.ENODATA
    again.agent.kill()  # so that it does not linger any more


def fork_keeping(fd):
    """A child that keeps fd open until its pipe is closed: the pipe."""
    get, put = os.pipe()
    if os.fork() == 0:
        os.close(put)
        os.read(get, 1)
        os._exit(0)
    os.close(get)
    return put


def check_next_is_not_bound(mount, *kept):
    """kept: agents, each with what its fork_keeping() returned."""
    again = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    assert again.stat().st_size == 0
    again.write(b"hello")
    again.close()
    for agent, pipe in kept:
        agent.call(os.close, pipe)
    mount.wait_state("f", "complete")
    assert mount.reader("f").read() == b"hello"


def test_who_closed_without_a_byte_binds_nobody(mount):
    """Though its close is not handled yet when the next one opens: a child stands for that."""
    writer = mount.writer("f")
    assert declare(mount, SIZE) == 0
    pipe = writer.call(fork_keeping)
    writer.close()
    check_next_is_not_bound(mount, (writer.agent, pipe))


def test_a_writer_of_a_former_generation_binds_nobody(mount):
    """Its close is not handled for as long as two others come and go: a child stands for that."""
    first = mount.writer("f")
    first.write(b"former")
    pipe = first.call(fork_keeping)
    first.close()
    second = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    assert declare(mount, SIZE) == 0
    second.close()
    check_next_is_not_bound(mount, (first.agent, pipe))


def test_a_writer_that_declared_in_vain_before_binds_nobody(mount):
    """Two that failed at once, then one that did not, and no close is handled yet."""
    pipes = []
    for _ in range(2):
        writer = mount.writer("f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        assert writer.stat().st_size == 0
        assert declare(mount, SIZE) == 0
        pipes.append((writer.agent, writer.call(fork_keeping)))
        writer.close()
    check_next_is_not_bound(mount, *pipes)


@pytest.mark.parametrize("options", ["", "linger=0.1", "sync=complete"])
def test_closed_without_a_byte(mode, make_mount, options):
    mount = make_mount(mode, options)
    writer = mount.writer("f")
    assert declare(mount, SIZE) == 0
    writer.close()
    mount.wait_state("f", "aborted")
    assert mount.xattr("f", "reason") == f"closed with 0 of {SIZE} declared bytes"
    again = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    again.write(b"hello")
    again.close()
    mount.wait_state("f", "complete")


def test_an_empty_file_keeps_it_in_a_shell(mount):
    """Which makes two descriptors of one, and has it open while others that had it end."""
    rwwctl = os.path.join(os.path.dirname(BINARY), "rwwctl")
    command = f"cd {mount.mnt}; ({rwwctl} declare f {SIZE}; printf hello >f) 3>f"
    assert mount.popen(["bash", "-c", command]).wait(procs.seconds(10)) == 0
    mount.wait_state("f", "aborted")
    assert mount.xattr("f", "reason") == f"closed with 5 of {SIZE} declared bytes"


def test_an_empty_file_keeps_it(mount):
    """(rwwctl declare f 100; cmd >f) 3>f"""
    writer = mount.writer("f")
    assert declare(mount, SIZE) == 0
    again = mount.writer("f", os.O_WRONLY | os.O_TRUNC)
    assert again.stat().st_size == SIZE
    writer.close()
    again.close()
    mount.wait_state("f", "aborted")
