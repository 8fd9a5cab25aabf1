# SPDX-License-Identifier: MIT
"""Random truncate/unlink/rename/overwrite/hole-punch sequences under held reads.

The model knows which bytes were written. After every step each follower is looked at: what it
got must have been written, what must be there must have come, and a read that nothing can answer
truthfully must be held.
"""
import errno
import os
import random

import pytest

from harness import procs
from harness.data import BLOCK, KEEP_SIZE, PUNCH_HOLE, Model, fallocate

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


class Follower:
    """A sequential reader with a read always under way."""

    def __init__(self, play):
        self.play = play
        self.agent = play.mount.agent()
        self.file = None
        self.reopen()

    def reopen(self):
        if self.file is not None:
            self.file.close()
        writer = self.play.writer
        self.file = self.play.mount.reader(f"/proc/{writer.agent.pid}/fd/{writer.fd}",
                                           agent=self.agent)
        self.offset = 0
        self.pending = None
        self.cut = False  # truncated below the offset since the last answer
        self.shrunk = None

    def look(self, before, after):
        """Take every answer that there is, then leave a read held."""
        while True:
            if self.pending is None:
                self.pending = self.file.begin_read(self.play.rng.choice((100, 4096, 1 << 20)))
            if self.cut:
                self.take_error(before)
            elif self.offset < after.must_have(self.offset):
                self.take(before, after)
            else:
                procs.wait_until(lambda: self.pending.done() or self.is_held(),
                                 self.play.tell(self, "to be answered or held"))
                if not self.pending.done():
                    break
                self.take(before, after)
            before = after
        self.shrunk = None

    def is_held(self):
        return (procs.blocked_in(self.agent.pid, "read", fd=self.file.fd) and
                self.play.mount.readers_of(self.agent.pid, self.file.fd) > 0)

    def take_error(self, before):
        """A read after the cut fails; one that was answered just before it had the old bytes."""
        try:
            got = self.pending.result()
        except OSError as e:
            assert e.errno == errno.EIO, self.play.tell(self, f"truncated below: {e}")
            return self.reopen()
        self.pending = None
        assert got and before.is_written(self.offset, got), \
            self.play.tell(self, f"truncated below, got {len(got)} bytes")
        self.offset += len(got)

    def take(self, before, after):
        try:
            got = self.pending.result()
        except OSError as e:
            raise AssertionError(self.play.tell(self, str(e))) from e
        self.pending = None
        assert got, self.play.tell(self, "EOF of a growing file")
        if not any(m.is_written(self.offset, got) for m in (after, before)):
            for i, byte in enumerate(got, self.offset):
                assert any(m.is_written(i, bytes([byte])) for m in (before, after)), \
                    self.play.tell(self, f"byte {i} is {byte}")
        self.offset += len(got)
        if self.shrunk is not None and self.offset > self.shrunk:
            self.cut = True  # answered before the file shrank


class Play:
    """One growing file, its writer, its model and its followers."""

    def __init__(self, mount, seed):
        self.mount, self.seed = mount, seed
        self.rng = random.Random(seed)
        self.model = Model()
        self.name = "f"
        self.steps = []
        self.writer = mount.writer(self.name, os.O_RDWR | os.O_CREAT)
        self.followers = []
        self.append()
        self.followers = [Follower(self) for _ in range(3)]

    def tell(self, follower, what):
        steps = "\n".join(self.steps[-15:])
        return (f"seed {self.seed}: follower at {follower.offset}: {what}; the file has "
                f"{len(self.model.data)} bytes, may have {self.model.may_have(follower.offset)}, "
                f"must have {self.model.must_have(follower.offset)}\n{steps}")

    def noise(self, size):
        return self.rng.randbytes(size).replace(b"\0", b"\1")

    def step(self):
        weights = {"append": 8, "overwrite": 3, "extend": 2, "jump": 2, "fill": 5, "shrink": 2,
                   "punch": 2, "allocate": 1, "unlink": 1, "rename": 2}
        what = self.rng.choices(list(weights), weights.values())[0]
        before = self.copy()
        told = getattr(self, what)()
        self.steps.append(f"{what} {told}")
        for follower in self.followers:
            follower.look(before, self.model)

    def copy(self):
        model = Model()
        model.data, model.written = self.model.data[:], self.model.written[:]
        return model

    def write(self, offset, size):
        data = self.noise(size)
        self.writer.pwrite(data, offset)
        self.model.write(offset, data)
        return offset, size

    def append(self):
        return self.write(len(self.model.data), self.rng.choice((1, 100, 5000, 70_000)))

    def overwrite(self):
        if not self.model.data:
            return "nothing"
        offset = self.rng.randrange(len(self.model.data))
        end = self.model.run_end(offset)
        return self.write(offset, min(end - offset, 9000)) if end > offset else "a hole"

    def whole_blocks_after_the_end(self, least, most):
        """An end such that at least one whole block is left that nobody wrote.

        Which bytes of one block were written cannot be told with passthrough; so no step leaves
        a block that was written behind a gap in it.
        """
        return (-(-len(self.model.data) // BLOCK) + self.rng.randint(least, most)) * BLOCK

    def extend(self):
        size = self.whole_blocks_after_the_end(1, 10)
        self.writer.truncate(size)
        self.model.resize(size)
        return size

    def jump(self):
        """Write beyond the end, leaving whole blocks that nobody wrote."""
        return self.write(self.whole_blocks_after_the_end(1, 5), self.rng.choice((1, 5000)))

    def fill(self):
        """Write the first hole, or a part of it that begins where the data before it ended."""
        start = self.model.written.find(0)
        if start < 0:
            return "nothing"
        end = self.model.written.find(1, start)
        end = len(self.model.data) if end < 0 else end
        blocks = self.rng.randint(1, 8) * BLOCK
        return self.write(start, min(end, start - start % BLOCK + blocks) - start)

    def shrink(self):
        size = self.model.written.rfind(1, 0, self.rng.randint(0, len(self.model.data))) + 1
        if size == 0:
            return "nothing"
        self.writer.truncate(size)
        for follower in self.followers:
            follower.cut |= size < follower.offset
            follower.shrunk = size
        self.model.resize(size)
        return size

    def punch(self):
        blocks = len(self.model.data) // BLOCK
        if blocks < 3:
            return "nothing"
        first = self.rng.randrange(blocks)
        count = min(self.rng.randint(1, 4), blocks - first)
        self.writer.call(fallocate, PUNCH_HOLE | KEEP_SIZE, first * BLOCK, count * BLOCK)
        self.model.punch(first * BLOCK, count * BLOCK)
        return first, count

    def allocate(self):
        size, end = len(self.model.data), self.whole_blocks_after_the_end(1, 6)
        self.writer.call(fallocate, 0, size, end - size)
        self.model.resize(end)
        return size, end

    def unlink(self):
        if self.name is None:
            return "again"
        self.mount.probe.call(os.unlink, self.mount.path(self.name))
        self.name = None
        return "the file"

    def rename(self):
        if self.name is None:
            return "nothing"
        target = self.rng.choice(("f", "g", "h"))
        if target != self.name:
            self.mount.write_file(target, b"to be replaced")
        self.mount.probe.call(os.rename, self.mount.path(self.name), self.mount.path(target))
        self.name = target
        return target

    def end(self):
        self.writer.close()
        for follower in self.followers:
            got = follower.pending.result()
            got += follower.file.read_all()
            assert got == self.model.data[follower.offset:], self.tell(follower, "wrong at the end")
        if self.name is not None:
            assert self.mount.stored_bytes(self.name) == self.model.data


@pytest.mark.parametrize("seed", range(20))
def test_random_changes_under_held_reads(mount, seed):
    play = Play(mount, seed)
    for _ in range(40):
        play.step()
    play.end()


def test_a_fresh_seed(mount):
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    play = Play(mount, seed)
    for _ in range(60):
        play.step()
    play.end()
