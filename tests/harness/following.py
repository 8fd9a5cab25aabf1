# SPDX-License-Identifier: MIT
"""What a follower reads of a growing file, and of a gap in it."""
import os


def follow(reader, wanted):
    """Read until as many bytes came; fewer mean that the file ended."""
    got = b""
    while len(got) < wanted:
        part = reader.read(wanted - len(got))
        if not part:
            break
        got += part
    return got


def follow_from(first, reader, wanted):
    return first + follow(reader, wanted - len(first))


def given(mount, wanted=100_000):
    """What a fresh reader gets in one read."""
    return mount.reader("f").pread(wanted, 0)


def follow_fd(fd, wanted):
    parts = []
    while wanted > 0:
        part = os.read(fd, min(wanted, 10_000))
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
