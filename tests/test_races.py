# SPDX-License-Identifier: MIT
"""Adversarial cases: races, kills and crowds."""
import collections
import errno
import hashlib
import os
import signal
import subprocess
import threading
import time

import pytest

from harness import mount as mounts
from harness import procs
from harness.agent import Agent, read_exactly
from harness.data import pattern
from harness.tools import sha256

IS_SLOW = os.path.exists(mounts.BINARY) and mounts.is_sanitized()


def rounds_of(count):
    """Sanitizer builds look at each round more closely and need fewer."""
    return count // 20 if IS_SLOW else count


def run_helper(mount, program, *args, timeout):
    process = mount.popen([program, *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=procs.seconds(timeout))
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{program} hangs\n{procs.dump(process.pid)}\n"
                             f"{procs.testimony()}") from None
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.sanitize
@pytest.mark.sysfuse
def test_growth_and_close_in_the_moment_a_reader_starts_to_wait(mount, mode, helper):
    """100,000 rounds, no reader left waiting."""
    rounds = rounds_of(20_000 if mode == "user" else 100_000)
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    run_helper(mount, helper("race"), mount.path("f"), rounds, seed, timeout=400)
    assert mount.xattr("f", "readers") == "0"
    procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")


@pytest.mark.sanitize
@pytest.mark.sysfuse
@pytest.mark.modes("off", "user")
def test_no_zeros_stay_for_those_who_had_it_open_before(mount, helper):
    """The page cache, whose last page an append outdates; with passthrough it is the store's."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    run_helper(mount, helper("stale"), mount.path("f"), rounds_of(100), seed, timeout=200)


@pytest.mark.sanitize
@pytest.mark.sysfuse
def test_killed_readers_leave_nothing_behind(mount, mode, helper):
    """10,000 cycles of SIGKILL, SIGINT and SIGALRM around the moment in which the wait begins."""
    cycles = rounds_of(2_000 if mode == "user" else 10_000)
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    writer = mount.writer("f")
    writer.write(b"hello")
    run_helper(mount, helper("killed"), mount.path("f"), cycles // 10, seed, timeout=60)
    memory, files = procs.rss_kib(mount.pid), procs.descriptors(mount.pid)
    out = run_helper(mount, helper("killed"), mount.path("f"), cycles, seed + 1, timeout=120)
    words = out.split()
    assert int(words[0]) > cycles // 4 and int(words[2]) > cycles // 10
    mount.wait_readers("f", 0)
    procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")
    procs.wait_until(lambda: len(procs.descriptors(mount.pid)) <= len(files),
                     "descriptors to be closed")
    if not IS_SLOW:
        assert procs.rss_kib(mount.pid) - memory < 1024, "memory grows"
    writer.write(b"!")
    assert mount.reader("f").read() == b"hello!"


# -- crowds


def follow_to_the_end(path):
    """(length and digest) of a file, or the name of the errno that ended it."""
    digest, size = hashlib.sha256(), 0
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            while part := os.read(fd, 65536):
                digest.update(part)
                size += len(part)
        finally:
            os.close(fd)
    except OSError as e:
        return procs.name_of(e.errno)
    return size, digest.hexdigest()


def follow_many(paths, each):
    """Follow every file in many threads of one process: how often each outcome came."""
    threading.stack_size(256 << 10)
    outcomes = collections.Counter()
    lock = threading.Lock()

    def one(path):
        outcome = follow_to_the_end(path)
        with lock:
            outcomes[os.path.basename(path), outcome] += 1

    threads = [threading.Thread(target=one, args=(p,)) for p in paths for _ in range(each)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return outcomes


class Crowd:
    """Growing files, each with many held reads."""

    def __init__(self, mount, files, each):
        self.mount, self.each = mount, each
        self.names = [f"f{i}" for i in range(files)]
        self.agent = mount.agent()
        self.writers = [mount.writer(n, agent=self.agent) for n in self.names]
        self.data = {n: pattern(1000 + i, i + 1) for i, n in enumerate(self.names)}
        for writer, name in zip(self.writers, self.names):
            writer.write(self.data[name])
        self.followers = mount.agent()
        self.pending = self.followers.begin(follow_many, [mount.path(n) for n in self.names], each)
        for name in self.names:
            mount.wait_readers(name, each, 30)

    def write(self, piece):
        for writer, name in zip(self.writers, self.names):
            writer.write(piece)
            self.data[name] += piece

    def close(self):
        for writer in self.writers:
            writer.close()

    def complete(self):
        return {(n, (len(d), sha256(d))): self.each for n, d in self.data.items()}


def use_the_mount(folder, rounds):
    """Ordinary work on other files; how long each operation took."""
    times = []

    def timed(func, *args):
        started = time.monotonic()
        value = func(*args)
        times.append(time.monotonic() - started)
        return value

    for i in range(rounds):
        path = os.path.join(folder, f"other{i % 50}")
        fd = timed(os.open, path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        timed(os.write, fd, b"x" * 5000)
        timed(os.fsync if i % 100 == 0 else os.fstat, fd)
        timed(os.close, fd)
        fd = timed(os.open, path, os.O_RDONLY)
        assert timed(os.read, fd, 10_000) == b"x" * 5000
        timed(os.close, fd)
        timed(os.stat, os.path.join(folder, f"f{i % 20}"))
        timed(os.listdir, folder)
        if i % 3 == 0:
            timed(os.unlink, path)
    return times


@pytest.mark.sanitize
@pytest.mark.sysfuse
def test_a_thousand_held_reads_starve_nobody(mount):
    crowd = Crowd(mount, 20, 50)
    workers = [mount.agent().begin(use_the_mount, mount.mnt, 150) if i == 0 else
               mount.agent().begin(stat_and_read, mount.path("f0"), 1000) for i in range(2)]
    times = [t for w in workers for t in w.result(60)]
    times.sort()
    assert times[-1] < procs.seconds(1)
    assert times[len(times) * 99 // 100] < procs.seconds(0.05)
    for name in crowd.names:
        assert mount.xattr(name, "readers") == "50"
    crowd.write(b"more")
    for name in crowd.names:
        mount.wait_readers(name, 50)
    crowd.close()
    assert crowd.pending.result(30) == crowd.complete()
    procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")


def stat_and_read(path, rounds):
    times = []
    fd = os.open(path, os.O_RDONLY)
    for i in range(rounds):
        started = time.monotonic()
        assert os.pread(fd, 100, i % 900)
        os.fstat(fd)
        times.append(time.monotonic() - started)
    os.close(fd)
    return times


@pytest.mark.sanitize
@pytest.mark.sysfuse
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_with_held_reads(mount, signum):
    crowd = Crowd(mount, 4, 25)
    started = time.monotonic()
    mount.kill(signum)
    outcomes = crowd.pending.result()
    assert mount.wait(2) == 0
    assert time.monotonic() - started < procs.seconds(2)
    check_all_failed(outcomes, 100)
    assert mounts.mount_entry(mount.mnt) is None
    for name, data in crowd.data.items():
        assert mount.stored_bytes(name) == data


def check_all_failed(outcomes, count):
    assert sum(outcomes.values()) == count
    for (name, outcome), _ in outcomes.items():
        assert isinstance(outcome, str), f"{name}: an end that is no end: {outcome}"


@pytest.mark.sysfuse
def test_a_killed_daemon_fails_every_held_read_at_once(mount, mode, make_mount):
    crowd = Crowd(mount, 10, 20)
    started = time.monotonic()
    mount.kill(signal.SIGKILL)
    check_all_failed(crowd.pending.result(), 200)
    assert time.monotonic() - started < procs.seconds(2)
    assert mount.wait() == -signal.SIGKILL
    if mode == "on":
        crowd.write(pattern(100_000, 99))
    else:
        assert crowd.writers[0].errno(os.write, b"x") in (errno.ENOTCONN, errno.ECONNABORTED)
    mount.end_users()
    mounts.rescue(mount.mnt)
    again = make_mount(mode, store=mount.store)
    for name, data in crowd.data.items():
        assert again.stat(name).st_size == len(data)
        assert again.reader(name).call(read_exactly, len(data)) == data


def test_readers_and_writers_come_and_go(mount, mode):
    """Opens, reads and closes of one file race with each other and with its writers."""
    stop = time.monotonic() + 2
    workers = [mount.agent().begin(append_repeatedly, mount.path("f"), stop) for _ in range(2)]
    workers += [mount.agent().begin(follow_repeatedly, mount.path("f"), stop, mode != "on")
                for _ in range(6)]
    for worker in workers:
        worker.result(20)
    mount.wait_state("f", "complete")
    assert mount.xattr("f", "readers") == "0"
    assert mount.xattr("f", "writers") == "0"
    data = mount.stored_bytes("f")
    assert set(data) == {ord("a")}
    assert mount.reader("f").read_all() == data


def append_repeatedly(path, stop):
    while time.monotonic() < stop:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for _ in range(3):
            os.write(fd, b"a" * 100)
        os.close(fd)


def follow_repeatedly(path, stop, cached):
    """
    cached: if nobody writes when it is opened it reads the page cache, so one answer may be wrong
    that came in the moment of a write, and is right the next time (test_splice.read_at_random).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    os.close(fd)
    while time.monotonic() < stop:
        fd = os.open(path, os.O_RDONLY)
        at = os.lseek(fd, max(0, os.fstat(fd).st_size - 1000), os.SEEK_SET)
        for _ in range(20):
            part = os.read(fd, 300)
            if cached and part.strip(b"a"):
                part = os.pread(fd, len(part), at)
            assert part == b"a" * len(part)
            if not part:
                break
            at += len(part)
        os.close(fd)


def make_and_remove(path, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with open(path, "wb") as f:
            f.write(b"x")
        os.unlink(path)


def use_while_removed(path, seconds):
    """How often it was open when it was removed: those use it on."""
    until, seen = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        try:
            for _ in range(3):
                os.getxattr(fd, "user.rww.state")
                seen += os.fstat(fd).st_nlink == 0
        finally:
            os.close(fd)
    return seen


@pytest.mark.sanitize
@pytest.mark.modes("on", "off")
@pytest.mark.options("attr_timeout=0")
def test_an_open_file_is_there_in_the_moment_it_is_removed(mount):
    """Its name is gone in the store before the daemon has noted it."""
    maker = mount.agent().begin(make_and_remove, mount.path("f"), 4)
    users = [mount.agent().begin(use_while_removed, mount.path("f"), 3) for _ in range(3)]
    assert sum(user.result() for user in users) > 0
    maker.result()


def replace_by_growing(path, seconds):
    """By files that get their first byte when they have the name."""
    over, new = time.monotonic() + seconds, f"{path}.{os.getpid()}"
    while time.monotonic() < over:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.rename(new, path)
        os.write(fd, b"x")
        os.close(fd)


def errors_of_opens(path, seconds):
    over, seen = time.monotonic() + seconds, set()
    while time.monotonic() < over:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as e:
            seen.add(errno.errorcode[e.errno])
    return seen


@pytest.mark.modes("on")
def test_a_name_that_others_get_while_it_is_opened(mount):
    """An open is told to look again (ESTALE), and finds another file, not told of either."""
    mount.write_file("f", b"x")
    replacing = [mount.agent().begin(replace_by_growing, mount.path("f"), 0.8) for _ in range(3)]
    readers = [mount.agent().begin(errors_of_opens, mount.path("f"), 0.7) for _ in range(2)]
    assert [r.result() for r in readers] == [set(), set()]
    for r in replacing:
        r.result()


def start_over(path, seconds):
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, b"x")
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")
def test_opens_by_those_whom_the_daemon_cannot_tell_apart(tmp_path):
    """It runs in a pid namespace of its own, as in a container."""
    store, mnt = tmp_path / "s", tmp_path / "m"
    store.mkdir()
    mnt.mkdir()
    daemon = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", mounts.BINARY, "-f",
                               store, mnt], stderr=subprocess.PIPE, preexec_fn=procs.die_with_parent)
    agents = [Agent() for _ in range(7)]
    try:
        procs.wait_until(lambda: mounts.mount_entry(str(mnt)), "the mount")
        writing = agents[0].begin(start_over, str(mnt / "f"), 0.6)
        procs.wait_until((store / "f").exists, "the file")
        opening = [agent.begin(errors_of_opens, str(mnt / "f"), 0.4) for agent in agents[1:]]
        assert [o.result() for o in opening] == [set()] * 6
        writing.result()
    finally:
        for agent in agents:
            agent.end()
        mounts.rescue(str(mnt))
        daemon.communicate(timeout=procs.seconds(10))
