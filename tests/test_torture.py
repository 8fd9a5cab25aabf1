# SPDX-License-Identifier: MIT
"""Writers, followers and a random killer, checked against a journal kept outside the mount.

RWW_TORTURE_SECONDS  how long to torture in each mode (default 20; an hour by hand: 3600)
RWW_TORTURE_SEED     the seed (default: fixed; it is printed)
"""
import os
import random
import sys
import time

import pytest

from harness import mount as mounts
from harness import procs
from harness.data import pattern

SECONDS = float(os.environ.get("RWW_TORTURE_SECONDS", "20"))
SEED = int(os.environ.get("RWW_TORTURE_SEED", "20261122"))
HELPERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "helpers")
ENDED = {"ENOTCONN", "ECONNABORTED", "EIO", "ENODEV"}


class File:
    """One file's writer, its readers and what the journal says of them."""

    def __init__(self, torture, number):
        self.torture, self.name = torture, f"f{number}"
        self.seed = torture.rng.randrange(1 << 30)
        self.journal = os.path.join(torture.journals, self.name)
        self.killed = self.daemon_died = False
        self.readers = []
        self.writer = torture.python("torture_writer.py", torture.mount.path(self.name),
                                     self.journal, self.seed, torture.rng.randrange(1, 60))

    def follow(self):
        out = f"{self.journal}.{len(self.readers)}"
        program = self.torture.python("torture_reader.py", self.torture.mount.path(self.name), out)
        self.readers.append([program, out, False])

    def notes(self):
        try:
            with open(self.journal) as f:
                return f.read().split("\n")
        except FileNotFoundError:
            return []

    def written(self):
        """Bytes of the file as far as its writer meant to write them."""
        sizes = [int(n.split()[1]) for n in self.notes() if n.startswith("wrote ")]
        data = b""
        for size in sizes:
            data += pattern(size - len(data), len(data) + self.seed)
        return data

    def check_readers(self, closing):
        written, complete = self.written(), False
        for program, out, killed in self.readers:
            program.wait(procs.seconds(20))
            if killed and not os.path.exists(out):
                continue
            with open(out, "rb") as f:
                got = f.read()
            assert written.startswith(got), f"{out}: wrong bytes after {common(written, got)}"
            if killed:
                continue
            with open(out + ".end") as f:
                end = f.read()
            if end == "EOF":
                assert closing and got == written, f"{out}: EOF after {len(got)} of {len(written)}"
                complete = True
            else:
                assert end in ENDED, f"{out}: ended with {end}"
        return complete

    def check(self, mount):
        notes = self.notes()
        if "open" not in notes:
            return
        closing, closed = "closing" in notes, "closed" in notes
        seen_complete = self.check_readers(closing)
        written, stored = self.written(), mount.stored_bytes(self.name)
        state = mount.xattr(self.name, "state")
        assert written.startswith(stored), f"{self.name}: wrong bytes in the store"
        assert state in ("complete", "aborted"), f"{self.name}: {state}"
        if state == "complete":
            assert closing and stored == written, \
                f"{self.name}: complete with {len(stored)} of {len(written)}, {notes[-2:]}"
        else:
            assert not seen_complete, f"{self.name}: aborted after a reader saw its end"
            assert not closed or self.killed or self.daemon_died, f"{self.name}: aborted for nothing"


def common(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


class Torture:
    def __init__(self, mount, seed):
        self.mount, self.rng = mount, random.Random(seed)
        self.journals = os.path.join(mount.base, "journals")
        os.mkdir(self.journals)
        self.files, self.kills = [], 0

    def python(self, script, *args):
        return self.mount.popen([sys.executable, os.path.join(HELPERS, script), *map(str, args)])

    def growing(self):
        return [f for f in self.files if f.writer.poll() is None]

    def kill_a_writer(self):
        for file in self.rng.sample(self.growing(), min(1, len(self.growing()))):
            procs.kill(file.writer.pid)
            file.killed = True
            self.kills += 1

    def kill_a_reader(self):
        alive = [r for f in self.files for r in f.readers if r[0].poll() is None]
        for reader in self.rng.sample(alive, min(1, len(alive))):
            procs.kill(reader[0].pid)
            reader[2] = True
            self.kills += 1

    def kill_the_daemon(self):
        for file in self.files:
            file.daemon_died |= file.writer.poll() is None or "closed" not in file.notes()[-2:] \
                or self.mount.xattr(file.name, "state") != "complete"
        self.mount.kill()
        self.mount.wait()
        self.kills += 1
        for file in self.growing():
            file.writer.wait(procs.seconds(20))
        for file in self.files:
            for program, _, _ in file.readers:
                program.wait(procs.seconds(20))
        mounts.rescue(self.mount.mnt)
        os.unlink(self.mount.pidfile)
        self.mount.start()

    def step(self):
        if len(self.growing()) < 12:
            self.files.append(File(self, len(self.files)))
        started = [f for f in self.growing() if "open" in f.notes()]
        if started:
            self.rng.choice(started).follow()
        act = self.rng.random()
        if act < 0.15:
            self.kill_a_writer()
        elif act < 0.3:
            self.kill_a_reader()
        elif act < 0.31:
            self.kill_the_daemon()

    def finish(self):
        for file in self.files:
            file.writer.wait(procs.seconds(30))
        for file in self.files:
            file.check(self.mount)


@pytest.mark.modes("on", "off")
def test_torture(mount, capsys):
    torture = Torture(mount, SEED)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        torture.step()
        time.sleep(torture.rng.random() * 0.03)  # the killer's pace
    torture.finish()
    states = [mount.xattr(f.name, "state") for f in torture.files if "open" in f.notes()]
    with capsys.disabled():
        print(f"\ntorture: seed {SEED}, {len(torture.files)} files, {torture.kills} kills, "
              f"{states.count('complete')} complete, {states.count('aborted')} aborted")
    assert states.count("complete") and states.count("aborted")
