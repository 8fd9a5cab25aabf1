# SPDX-License-Identifier: MIT
"""Truncation under a follower."""
import errno
import os

import pytest

from harness.data import pattern
from harness.following import follow

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


@pytest.fixture
def follower(mount):
    """(mount, writer, reader that has read all of 8192 bytes)."""
    writer = mount.writer("f")
    writer.write(pattern(8192))
    reader = mount.reader("f")
    assert follow(reader, 8192) == pattern(8192)
    return mount, writer, reader


def test_truncation_below_a_held_read_is_an_error(follower):
    _, writer, reader = follower
    held = reader.begin_read().wait_held()
    writer.truncate(4096)
    assert held.errno() == errno.EIO


def test_truncation_below_a_follower_fails_its_next_read(follower):
    _, writer, reader = follower
    writer.truncate(4096)
    assert reader.errno(os.read, 100) == errno.EIO


def test_no_seamless_continuation_after_truncation(follower):
    mount, writer, reader = follower
    writer.truncate(4096)
    writer.pwrite(pattern(20_000, 3), 4096)
    assert reader.errno(os.read, 100) == errno.EIO
    assert reader.errno(os.read, 100) == errno.EIO
    fresh = mount.reader("f")
    assert follow(fresh, 24_096) == pattern(4096) + pattern(20_000, 3)


@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
def test_a_file_that_starts_over(follower, held):
    mount, writer, reader = follower
    pending = reader.begin_read().wait_held() if held else None
    again = mount.open("f", os.O_WRONLY | os.O_TRUNC)
    if held:
        assert pending.errno() == errno.EIO
    again.write(pattern(20_000, 3))
    assert reader.errno(os.read, 100) == errno.EIO
    again.close()
    writer.close()
    assert reader.errno(os.read, 100) == errno.EIO
    assert mount.reader("f").read_all() == pattern(20_000, 3)


@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
def test_a_truncation_in_the_store(follower, held):
    """Behind the mount's back, and noticed before the file is as long as it was: as through it."""
    mount, writer, reader = follower
    other = mount.reader("f")
    assert follow(other, 8192) == pattern(8192)
    pending = reader.begin_read().wait_held() if held else None
    os.truncate(mount.stored("f"), 100)
    writer.pwrite(b"more", 100)
    if held:
        assert pending.errno() == errno.EIO
    else:
        assert reader.errno(os.read, 100) == errno.EIO
    writer.pwrite(pattern(20_000, 3), 104)
    for one in (reader, other):
        assert one.errno(os.read, 100) == errno.EIO
    assert reader.pread(10, 0) == pattern(10)


def test_truncation_by_name(follower):
    mount, _, reader = follower
    held = reader.begin_read().wait_held()
    mount.agent().call(os.truncate, mount.path("f"), 0)
    assert held.errno() == errno.EIO


def test_truncation_after_completion(follower):
    mount, writer, reader = follower
    writer.close()
    assert reader.read() == b""
    mount.agent().call(os.truncate, mount.path("f"), 100)
    assert reader.errno(os.read, 100) == errno.EIO


def test_truncation_above_a_follower(mount):
    writer = mount.writer("f")
    writer.write(pattern(8192))
    reader = mount.reader("f")
    assert follow(reader, 4096) == pattern(4096)
    writer.truncate(6000)
    assert follow(reader, 1904) == pattern(8192)[4096:6000]
    held = reader.begin_read().wait_held()
    writer.truncate(6000)
    held.stays_held()
    writer.seek(6000)
    writer.write(b"more")
    assert held.result() == b"more"


def test_truncation_to_the_followers_offset(follower):
    _, writer, reader = follower
    held = reader.begin_read().wait_held()
    writer.truncate(8192)
    held.stays_held()
    writer.write(b"more")
    assert held.result() == b"more"


def test_truncation_of_a_complete_file_is_plain(mount):
    mount.write_file("f", pattern(8192))
    reader = mount.reader("f")
    assert reader.read(6000) == pattern(6000)
    mount.agent().call(os.truncate, mount.path("f"), 100)
    assert reader.read() == b""
    assert reader.pread(1000, 0) == pattern(100)
