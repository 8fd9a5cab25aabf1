# SPDX-License-Identifier: MIT
"""The options hold= and nonblock=, and O_NONBLOCK at open and by fcntl."""
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import time

import pytest

from harness import procs
from harness.agent import handle_signal, raw_open

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


@pytest.fixture
def growing(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    return mount, writer


def set_nonblock(fd, on=True):
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK if on else flags & ~os.O_NONBLOCK)


def test_opened_nonblocking_is_a_plain_snapshot(growing):
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    assert reader.read() == b"hello"
    assert reader.read() == b""
    writer.write(b" world")
    assert reader.read() == b" world"
    assert reader.read() == b""
    writer.close()
    assert reader.read() == b""


def test_opened_nonblocking_large(growing):
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    total = b"hello"
    for size in (4091, 1, 100_000, 3, 1 << 20):
        piece = os.urandom(size)
        writer.write(piece)
        total += piece
        assert reader.pread(2 << 20, 0) == total
        assert reader.stat().st_size == len(total)


def test_fcntl_nonblock_on_a_following_handle(growing):
    mount, writer = growing
    reader = mount.reader("f")
    reader.call(set_nonblock)
    assert reader.read() == b"hello"
    assert reader.errno(os.read, 10) == errno.EAGAIN
    writer.write(b"!")
    assert reader.read() == b"!"
    assert reader.errno(os.read, 10) == errno.EAGAIN
    reader.call(set_nonblock, False)
    held = reader.begin_read().wait_held()
    writer.write(b"?")
    assert held.result() == b"?"
    reader.call(set_nonblock)
    writer.close()
    mount.wait_state("f", "complete")
    assert reader.read() == b""


@pytest.mark.options("nonblock=hold")
def test_nonblock_hold_makes_such_opens_following(growing):
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


@pytest.mark.options("nonblock=hold")
def test_nonblock_hold_waits_for_what_was_cut(growing):
    """Though somebody, if not this reader, was told of the bytes that are gone."""
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    assert mount.xattr("f", "progress").startswith("growing 5 ")
    writer.truncate(2)
    assert reader.read() == b"he"
    held = reader.begin_read().wait_held()
    writer.pwrite(b"!", 2)
    assert held.result() == b"!"


@pytest.mark.options("nonblock=plain")
def test_nonblock_plain_is_the_default(growing):
    mount, _ = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    assert reader.read() == b"hello"
    assert reader.read() == b""


@pytest.mark.options("hold=none")
def test_hold_none_never_holds(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    assert reader.read() == b""
    writer.write(b" world")
    assert reader.read() == b" world"
    assert reader.read() == b""
    assert mount.reader("f").read_all() == b"hello world"


@pytest.mark.modes("on")
@pytest.mark.options("hold=none")
def test_hold_none_nor_a_file_that_was_aborted(growing):
    mount, writer = growing
    writer.agent.kill()
    mount.wait_state("f", "aborted")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    assert reader.errno(os.read, 10) == errno.EIO
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    assert reader.read() == b""
    again.write(b" world")
    assert reader.read() == b" world"
    assert reader.read() == b""
    again.close()
    mount.wait_state("f", "complete")
    assert reader.read() == b""


@pytest.mark.options("hold=open")
class TestHoldOpen:
    def begin_open(self, mount, flags=os.O_RDONLY):
        agent = mount.agent()
        return agent.begin(os.open, mount.path("f"), flags)

    def test_open_waits_for_completion(self, growing):
        mount, writer = growing
        pending = self.begin_open(mount).wait_blocked("openat")
        writer.write(b" world")
        procs.stays(lambda: not pending.done(), "open waiting")
        writer.close()
        fd = pending.result()
        assert pending.agent.call(os.read, fd, 100) == b"hello world"
        assert pending.agent.call(os.read, fd, 100) == b""

    def test_all_writers_are_waited_for(self, growing):
        mount, first = growing
        second = mount.open("f", os.O_WRONLY | os.O_APPEND)
        pending = self.begin_open(mount).wait_blocked("openat")
        first.close()
        procs.stays(lambda: not pending.done(), "open waiting")
        second.close()
        pending.result()

    def test_complete_files_open_at_once(self, mount):
        mount.write_file("f", b"hello")
        assert mount.reader("f").read_all() == b"hello"

    def test_writers_do_not_wait(self, growing):
        mount, _ = growing
        mount.open("f", os.O_WRONLY)
        mount.open("f", os.O_RDWR)
        mount.open("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def test_nonblock_gets_eagain(self, growing):
        mount, writer = growing
        agent = mount.agent()
        flags = os.O_RDONLY | os.O_NONBLOCK
        assert agent.errno(os.open, mount.path("f"), flags) == errno.EAGAIN
        writer.close()
        mount.wait_state("f", "complete")
        assert agent.open(mount.path("f"), flags).read() == b"hello"

    @pytest.mark.options("hold=open", "nonblock=hold")
    def test_nonblock_hold_waits(self, growing):
        mount, writer = growing
        pending = self.begin_open(mount, os.O_RDONLY | os.O_NONBLOCK).wait_blocked("openat")
        writer.close()
        pending.result()

    @pytest.mark.options("hold=open", "nonblock=hold")
    def test_who_asks_for_a_plain_handle_is_not_held(self, growing):
        mount, _ = growing
        reader = mount.reader("f", os.O_NONBLOCK | os.O_SYNC)
        assert reader.read() == b"hello"
        assert reader.read() == b""

    def test_a_signal_interrupts(self, growing):
        mount, _ = growing
        agent = mount.agent()
        agent.call(handle_signal, signal.SIGUSR1)
        pending = agent.begin(raw_open, mount.path("f")).wait_blocked("openat", "open")
        agent.kill(signal.SIGUSR1)
        assert pending.errno() == errno.EINTR

    def test_sigkill(self, growing):
        mount, writer = growing
        pending = self.begin_open(mount).wait_blocked("openat")
        pending.agent.kill()
        assert pending.agent.wait(2) == -signal.SIGKILL
        procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")
        writer.close()
        assert mount.reader("f").read_all() == b"hello"

    def test_many_opens_wake_together(self, growing):
        mount, writer = growing
        pending = [self.begin_open(mount) for _ in range(50)]
        for p in pending:
            p.wait_blocked("openat")
        mount.stat("f")
        assert len(mount.probe.call(os.listdir, mount.mnt)) == 1
        writer.close()
        for p in pending:
            p.result()

    def test_daemon_ends_while_opens_wait(self, growing):
        mount, _ = growing
        pending = self.begin_open(mount).wait_blocked("openat")
        mount.kill(signal.SIGTERM)
        assert mount.wait(5) == 0
        assert pending.errno() != 0

    # tar and gzip open with O_NONBLOCK.
    @pytest.mark.options("hold=open", "nonblock=hold")
    def test_programs_that_trust_st_size_get_everything(self, growing):
        mount, writer = growing
        out = os.path.join(mount.run, "out")
        source = mount.path("f")
        commands = {
            "tar": ["sh", "-c", f"tar -C {mount.mnt} -cf - f | tar -xOf - f > {out}.tar"],
            "rsync": ["rsync", "--whole-file", source, f"{out}.rsync"],
            "rsync delta": ["sh", "-c", f"cp /dev/null {out}.delta && rsync --no-W {source} {out}.delta"],
            "gzip": ["sh", "-c", f"gzip -c {source} | gzip -dc > {out}.gzip"],
            "curl": ["curl", "-sS", "-o", f"{out}.curl", f"file://{source}"],
            "python": ["/usr/bin/python3", "-c", "import shutil, sys; shutil.copyfile(*sys.argv[1:])",
                       source, f"{out}.python"],
            "node": ["node", "-e", "const fs = require('fs'); const a = process.argv;"
                     "fs.writeFileSync(a[2], fs.readFileSync(a[1]))", source, f"{out}.node"],
        }
        programs = {name: mount.popen(argv, stderr=subprocess.PIPE)
                    for name, argv in commands.items()}
        digest = hashlib.sha256(b"hello")
        for i in range(40):
            piece = os.urandom(1 + i * 379 % 9973)
            digest.update(piece)
            writer.write(piece)
            time.sleep(0.02)  # the pace of this producer
        assert [n for n, p in programs.items() if p.poll() is not None] == [], "ended early"
        writer.close()
        for name, program in programs.items():
            _, err = program.communicate(timeout=procs.seconds(20))
            assert program.returncode == 0, f"{name}: {err}"
        for name in ("tar", "rsync", "delta", "gzip", "curl", "python", "node"):
            with open(f"{out}.{name}", "rb") as f:
                assert hashlib.sha256(f.read()).digest() == digest.digest(), name
