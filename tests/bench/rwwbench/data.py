# SPDX-License-Identifier: MIT
"""Throughput of writers and readers, mount against store."""
import os

from .figures import rate, speed_ratio, times

# Bytes a write, writes a round, what the issue wants alone and with a follower. Rounds are short,
# about 10 ms, so that most of them pass undisturbed by others on the machine.
WRITES = ((100, 20_000, 0.5, 0.25), (4096, 4096, 0.8, 0.6), (1 << 20, 48, 0.9, 0.8))
SIZE_NAMES = {100: "100-byte", 4096: "4 KiB", 1 << 20: "1 MiB", 128 << 10: "128 KiB"}


def write(place, quick):
    with place.mount() as daemon:
        for size, count, target, _ in WRITES:
            rows = _measure(place, daemon, size, count, 41 if quick else 121, False)
            yield speed_ratio(f"write {SIZE_NAMES[size]}", rows[1], rows[0], target,
                              _shower(size, count))


def write_followed(place, quick):
    with place.mount() as daemon:
        for size, count, _, target in WRITES:
            rows = _measure(place, daemon, size, count, 31 if quick else 91, True)
            name, show_one = SIZE_NAMES[size], _shower(size, count)
            yield speed_ratio(f"write {name}, one follower / store, none", rows[1], rows[0],
                              target, show_one)
            yield speed_ratio(f"write {name}, one follower / store, tail -f loop", rows[1],
                              rows[2], None, show_one)


def _measure(place, daemon, size, count, rounds, followed):
    folder = os.path.join(daemon.store, "through-the-mount")
    os.makedirs(folder, exist_ok=True)
    lines = place.lines("write", daemon.store, os.path.join(daemon.mnt, "through-the-mount"), size,
                        count, rounds, int(followed))
    return [[int(line[k]) for line in lines] for k in range(3)]


def _shower(size, count):
    if size < 4096:
        return lambda ns: times(ns / count) + " each"
    return lambda ns: rate(size * count, ns)


def read(place, quick):
    total = (64 if quick else 256) << 20
    with place.mount() as daemon:
        path = os.path.join(daemon.store, "complete")
        with open(path, "wb") as f:
            block = os.urandom(1 << 20)
            for _ in range(total >> 20):
                f.write(block)
        for how, size in (("read", 128 << 10), ("read", 1 << 20), ("sendfile", 1 << 20)):
            lines = place.lines("read", path, os.path.join(daemon.mnt, "complete"), size,
                                25 if quick else 75, how)
            yield speed_ratio(f"{how} a complete file, {SIZE_NAMES[size]} at a time",
                              [int(b) for _, b in lines], [int(a) for a, _ in lines], 0.9,
                              lambda ns: rate(total, ns))
