# SPDX-License-Identifier: MIT
"""What ends a held read besides the file: signals, time-outs, a stopped process."""
import errno
import os
import signal
import time

import pytest

from harness import procs, sandbox
from harness.agent import handle_signal, raw_read

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


@pytest.fixture
def edge(mount):
    """(mount, writer, reader at the live edge)."""
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    return mount, writer, reader


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGINT, signal.SIGALRM])
def test_a_handled_signal_interrupts(edge, signum):
    mount, writer, reader = edge
    reader.agent.call(handle_signal, signum)
    for _ in range(3):
        held = reader.begin(raw_read, 100).wait_held()
        started = time.monotonic()
        reader.agent.kill(signum)
        assert held.errno() == errno.EINTR
        assert time.monotonic() - started < procs.seconds(1)
    mount.wait_readers("f", 0)
    writer.write(b"!")
    assert reader.read() == b"!"


def test_an_ignored_signal_does_not_interrupt(edge):
    _, writer, reader = edge
    reader.agent.call(handle_signal, signal.SIGUSR1, "ignore")
    held = reader.begin(raw_read, 100).wait_held()
    reader.agent.kill(signal.SIGUSR1)
    held.stays_held()
    writer.write(b"!")
    assert held.result() == b"!"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_held_reader_can_be_killed(edge, signum):
    mount, writer, reader = edge
    reader.begin_read().wait_held()
    reader.agent.kill(signum)
    assert reader.agent.wait(2) == -signum
    mount.wait_readers("f", 0)
    procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")
    writer.write(b"!")
    assert mount.reader("f").read() == b"hello!"


def test_killing_one_reader_leaves_the_others(edge):
    mount, writer, reader = edge
    others = [mount.reader("f") for _ in range(5)]
    held = [r.begin_pread(10, 5) for r in others]
    reader.begin_read()
    mount.wait_readers("f", 6)
    reader.agent.kill()
    reader.agent.wait(2)
    mount.wait_readers("f", 5)
    writer.write(b"!")
    assert [h.result() for h in held] == [b"!"] * 5


def test_a_stopped_reader_delays_nobody_and_continues(edge):
    mount, writer, stopped = edge
    running = mount.reader("f")
    running.read()
    stopped_read = stopped.begin_read().wait_held()
    stopped.agent.kill(signal.SIGSTOP)
    procs.wait_until(lambda: procs.state(stopped.agent.pid) == "T", "the reader to stop")
    for i in range(20):
        held = running.begin_read()
        writer.write(b"%02d" % i)
        assert held.result() == b"%02d" % i
    writer.close()
    assert running.read() == b""
    stopped.agent.kill(signal.SIGCONT)
    data = b"".join(b"%02d" % i for i in range(20))
    got = stopped_read.result()
    got += stopped.read_all()
    assert got == data


def test_stopped_and_continued_without_growth(edge):
    _, writer, reader = edge
    held = reader.begin_read().wait_held()
    for _ in range(3):
        reader.agent.kill(signal.SIGSTOP)
        procs.wait_until(lambda: procs.state(reader.agent.pid) == "T", "the reader to stop")
        reader.agent.kill(signal.SIGCONT)
        held.wait_held()
    writer.write(b"!")
    assert held.result() == b"!"


@pytest.mark.options("hold_timeout=1")
def test_a_time_out(edge):
    mount, writer, reader = edge
    started = time.monotonic()
    held = reader.begin_read().wait_held()
    assert held.errno(5) == errno.ETIMEDOUT
    elapsed = time.monotonic() - started
    assert 0.95 <= elapsed < procs.seconds(2)
    mount.wait_readers("f", 0)
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"
    assert mount.xattr("f", "state") == "growing"


@pytest.mark.options("hold_timeout=2")
def test_time_outs_are_each_readers_own(edge):
    mount, _, first = edge
    second = mount.reader("f")
    second.read()
    started = time.monotonic()
    first_held = first.begin_read().wait_held()
    procs.wait_until(lambda: time.monotonic() - started >= 1, "the first to have waited half")
    second_started = time.monotonic()
    second_held = second.begin_read().wait_held()
    assert first_held.errno(5) == errno.ETIMEDOUT
    assert time.monotonic() - started < procs.seconds(2.9)
    assert not second_held.done()
    assert second_held.errno(5) == errno.ETIMEDOUT
    assert time.monotonic() - second_started >= 1.95


@pytest.mark.options("hold_timeout=1")
def test_growth_in_time_is_no_time_out(edge):
    _, writer, reader = edge
    started = time.monotonic()
    while time.monotonic() - started < 2.2:
        held = reader.begin_read().wait_held()
        time.sleep(0.5)  # the pace of this writer
        writer.write(b"x")
        assert held.result() == b"x"


@pytest.mark.options("hold_timeout=1")
def test_growth_that_is_not_enough_yet_is_no_time_out(edge):
    """A read below a declared size waits for all it asked for."""
    mount, writer, reader = edge
    before = mount.stat("f").st_size
    mount.declare("f", before + 100)
    held = reader.begin_read(100).wait_held()
    for _ in range(11):
        time.sleep(0.3)  # the pace of this writer
        writer.write(b"x")
    assert not held.done()
    started = time.monotonic()
    assert held.errno(5) == errno.ETIMEDOUT
    assert 0.65 <= time.monotonic() - started < procs.seconds(3)
    held = reader.begin_read(100).wait_held()
    writer.write(b"x" * 89)
    assert held.result() == b"x" * 100


@pytest.mark.options("hold_timeout=1")
@pytest.mark.parametrize("how", ["allocated", "hole"])
def test_growth_into_space_that_is_there_is_no_time_out(edge, how):
    """The size of the file does not change then."""
    mount, writer, reader = edge
    before = mount.stat("f").st_size
    if how == "allocated":
        writer.call(os.posix_fallocate, 0, before + 11 * 4096)
    else:
        writer.truncate(before + 11 * 4096)
    mount.declare("f", before + 11 * 4096)
    held = reader.begin_read(11 * 4096).wait_held()
    for i in range(10):
        time.sleep(0.3)  # the pace of this writer
        writer.pwrite(b"x" * 4096, before + i * 4096)
    assert not held.done()
    started = time.monotonic()
    assert held.errno(5) == errno.ETIMEDOUT
    assert 0.65 <= time.monotonic() - started < procs.seconds(3)
    held = reader.begin_read(11 * 4096).wait_held()
    writer.pwrite(b"x" * 4096, before + 10 * 4096)
    assert held.result() == b"x" * 11 * 4096


def test_changes_of_attributes_do_not_end_a_read(edge):
    mount, writer, reader = edge
    held = reader.begin_read().wait_held()
    mount.probe.call(os.chmod, mount.path("f"), 0o600)
    mount.probe.call(os.utime, mount.path("f"))
    mount.probe.call(os.setxattr, mount.path("f"), "user.note", b"x")
    held.stays_held()
    writer.write(b"!")
    assert held.result() == b"!"


@pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")
@pytest.mark.parametrize("limits, seconds, options", [
    ({"max_request_timeout": 2}, 1.0, ""), ({"default_request_timeout": 2}, 1.0, "hold_timeout=60"),
    ({"max_request_timeout": 100, "default_request_timeout": 2}, 1.0, ""),
    ({"max_request_timeout": 100}, 75.0, "hold_timeout=1")])
def test_less_than_what_the_system_grants(mode, make_mount, tmp_path, limits, seconds, options):
    """fs.fuse.*_request_timeout would abort the whole connection; the files are ours, as the
    daemon sees them: the real ones would hit every mount that is made meanwhile."""
    for name, value in limits.items():
        path = f"/proc/sys/fs/fuse/{name}"
        if not os.path.exists(path):
            pytest.skip("fs.fuse.max_request_timeout: needs Linux 6.15")
        (tmp_path / name).write_text(f"{value}\n")
        os.chmod(tmp_path / name, 0o644)
        sandbox.bind(tmp_path / name, path)
    try:
        mount = make_mount(mode, options, start=False)
        mount.allow_log(f"fs.fuse request timeouts are set: .* at most {seconds} s")
        mount.start()
    finally:
        for name in limits:
            sandbox.umount(f"/proc/sys/fs/fuse/{name}")
    assert "request timeouts" in mount.log()
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    started = time.monotonic()
    assert reader.errno(os.read, 100) == errno.ETIMEDOUT
    assert 0.9 < time.monotonic() - started
