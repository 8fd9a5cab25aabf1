# SPDX-License-Identifier: MIT
"""Test data, and an independent model of what a follower of a file with holes may be given."""
import array
import ctypes
import os
import random

BLOCK = 4096

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32


def pattern(size, seed=1):
    """Bytes without zeros in which every aligned word depends on its offset."""
    words = array.array("Q", ((i + seed) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
                              | 0x0101010101010101 for i in range((size + 7) // 8)))
    return words.tobytes()[:size]


def pieces(data, seed, largest):
    """data cut into uneven pieces."""
    rng = random.Random(seed)
    offset = 0
    while offset < len(data):
        size = rng.choice((1, rng.randint(1, 200), rng.randint(1, largest)))
        yield data[offset:offset + size]
        offset += size


def fallocate(fd, mode, offset, length):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


class Model:
    """The bytes of one growing file, and which of them were written."""

    def __init__(self):
        self.data = bytearray()
        self.written = bytearray()
        self.murky = set()  # blocks that were once partly a hole: delivered with the next one

    def write(self, offset, data):
        if offset > len(self.data):
            self.resize(offset)
        missing = max(0, offset + len(data) - len(self.data))
        self.data.extend(bytes(missing))
        self.written.extend(bytes(missing))
        self.data[offset:offset + len(data)] = data
        self.written[offset:offset + len(data)] = b"\1" * len(data)

    def resize(self, size):
        if size > len(self.data):
            self.murky.add(len(self.data) // BLOCK)
            self.murky.add((size - 1) // BLOCK)
        for array in (self.data, self.written):
            del array[size:]
            array.extend(bytes(size - len(array)))

    def punch(self, offset, length):
        end = min(offset + length, len(self.data))
        if offset < end:
            self.data[offset:end] = bytes(end - offset)
            # Only whole blocks become holes; the rest is zeros that the caller wrote.
            first, last = -(-offset // BLOCK) * BLOCK, end // BLOCK * BLOCK
            if end == len(self.data):
                last = max(last, end)
            self.murky.update((offset // BLOCK, end // BLOCK))
            if first < last:
                self.written[first:last] = bytes(last - first)

    def is_written(self, offset, data):
        """Exactly these bytes were written there."""
        end = offset + len(data)
        return self.data[offset:end] == data and self.written.find(0, offset, end) < 0 \
            and end <= len(self.data)

    def run_end(self, offset):
        """The end of the written bytes that begin at offset."""
        end = self.written.find(0, offset)
        return len(self.written) if end < 0 else end

    def must_have(self, offset):
        """How far a follower at offset must get now: next to a hole, a block less."""
        end = self.run_end(offset)
        if end == len(self.data) and (end - 1) // BLOCK not in self.murky:
            return end
        return max(offset, end - BLOCK)

    def may_have(self, offset):
        """How far a follower at offset may get now."""
        return self.run_end(offset)
