# SPDX-License-Identifier: MIT
"""Writers, followers and a random killer; then every file and every reader against what was planned.

What a file will hold follows from its name, so a follower knows whether what it got is right and
whether an end is early. RWW_TORTURE_SECONDS and RWW_TORTURE_SEED run it longer, or again.
"""
import errno
import os
import random
import signal
import time

import pytest

from harness import mount as mounts
from harness import procs
from harness.data import pattern

pytestmark = [pytest.mark.sysfuse]

SECONDS = float(os.environ.get("RWW_TORTURE_SECONDS", "15"))
BYTES = pattern(400_000)
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


def planned(name):
    """What the file is to hold."""
    rng = random.Random(name)
    start = rng.randrange(len(BYTES) // 2)
    return BYTES[start:start + rng.choice((1, 100, 5000, 5000, 60_000))]


def produce(root, seed, journal):
    """Write files until killed; the journal, outside, knows which were opened and completed."""
    rng = random.Random(seed)
    out = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for i in range(1_000_000):
        name = f"{seed}.{i}"
        data = planned(name)
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=root)
            os.write(out, b"opened " + name.encode() + b"\n")
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:done + rng.randint(1, 9000)])
                if rng.random() < 0.2:
                    time.sleep(rng.random() * 0.005)
            os.close(fd)
            if os.getxattr(f"/proc/self/fd/{root}/{name}", "user.rww.state") == b"complete":
                os.write(out, b"complete " + name.encode() + b"\n")
        except OSError as e:
            assert e.errno in GONE, e
            return


def follow(root, seed):
    """Follow files until killed or the mount is gone; what was wrong, if anything."""
    rng = random.Random(seed)
    while True:
        try:
            name = rng.choice(os.listdir(root) or ["none"])
            fd = os.open(name, os.O_RDONLY, dir_fd=root)
        except OSError as e:
            if e.errno == errno.ENOENT:
                continue  # nothing there yet
            assert e.errno in GONE, e
            return None
        data, got = planned(name), 0
        try:
            while part := os.read(fd, rng.choice((1, 1000, 70_000))):
                if data[got:got + len(part)] != part:
                    return f"{name}: wrong byte after {got}"
                got += len(part)
            if got != len(data):
                return f"{name}: early end at {got} of {len(data)}"
        except OSError as e:
            assert e.errno in GONE, e
        os.close(fd)


class Torture:
    def __init__(self, mount, rng):
        self.mount, self.rng = mount, rng
        self.producers, self.followers = [], []
        self.count = 0

    def enlist(self):
        while len(self.producers) < 4:
            self.count += 1
            journal = os.path.join(self.mount.run, f"journal.{self.count}")
            self.producers.append(self.begin(produce, journal))
        while len(self.followers) < 8:
            self.followers.append(self.begin(follow))

    def begin(self, func, *args):
        """With the mount's root, open: by its path one may find the bare folder once it is gone."""
        agent = self.mount.agent()
        root = agent.call(os.open, self.mount.mnt, os.O_RDONLY | os.O_DIRECTORY)
        return agent.begin(func, root, self.rng.randrange(10**9), *args)

    def run(self, seconds):
        until = time.monotonic() + seconds
        self.enlist()
        while time.monotonic() < until:
            time.sleep(self.rng.random() * 0.05)  # the killer's pace
            crowd = self.rng.choice((self.producers, self.followers))
            victim = crowd.pop(self.rng.randrange(len(crowd)))
            if victim.done():
                assert victim.result() is None
            victim.agent.kill(self.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGABRT)))
            victim.agent.wait(5)
            self.enlist()

    def end(self, how):
        """The daemon is killed, or told to end; whoever is left notices at once."""
        self.mount.kill(how)
        assert self.mount.wait() == (-how if how == signal.SIGKILL else 0)
        for user in self.producers + self.followers:
            try:
                wrong = user.result(5)
            except OSError as e:
                wrong = None if e.errno in GONE else e
            assert not wrong, wrong
        self.mount.end_users()
        mounts.rescue(self.mount.mnt)

    def journal(self):
        """{name: "opened" or "complete"}"""
        names = {}
        for i in range(1, self.count + 1):
            try:
                with open(os.path.join(self.mount.run, f"journal.{i}")) as f:
                    names.update(reversed(line.split()) for line in f)
            except FileNotFoundError:
                pass
        return names


def check_all(mount, journal):
    """Every file is what was planned, or its beginning and aborted.

    An empty one whose open(2) had not returned when the daemon died was nobody's yet.
    """
    agent = mount.agent()
    for name in os.listdir(mount.store):
        state, data, end = agent.call(examine, mount.path(name))
        plan = planned(name)
        assert plan.startswith(data), name
        if name not in journal and not data:
            continue
        if journal.get(name) == "complete" or end == 0:
            assert (state, data, end) == ("complete", plan, 0), name
        else:
            assert (state, end) == ("aborted", errno.EIO), name


def examine(path):
    state = os.getxattr(path, "user.rww.state").decode()
    fd = os.open(path, os.O_RDONLY)
    data = b""
    try:
        while part := os.read(fd, 65536):
            data += part
        return state, data, 0
    except OSError as e:
        return state, data, e.errno
    finally:
        os.close(fd)


@pytest.mark.modes("on", "off")
def test_torture(mode, make_mount):
    seed = int(os.environ.get("RWW_TORTURE_SEED") or int.from_bytes(os.urandom(4), "little"))
    print(f"RWW_TORTURE_SEED={seed}")
    rng = random.Random(seed)
    until = time.monotonic() + SECONDS
    store, lives = None, 0
    while time.monotonic() < until or lives < 3:
        lives += 1
        mount = make_mount(mode, store=store)
        store = mount.store
        torture = Torture(mount, rng)
        torture.run(min(2.5, SECONDS / 5))
        procs.wait_until(lambda: procs.alive(mount.pid), "the daemon to be alive")
        torture.end(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        after = make_mount(mode, store=store)
        check_all(after, torture.journal())
        after.stop()
        for name in os.listdir(store):  # the next life begins afresh
            os.unlink(os.path.join(store, name))
