# SPDX-License-Identifier: MIT
"""poll, epoll and select on following and plain handles."""
import errno
import os
import select
import signal

import pytest

from harness import procs

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

IN, OUT, ERR, HUP = select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP


@pytest.fixture
def growing(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    return mount, writer


def poll(fd, timeout=0, events=IN):
    """What poll(2) tells within timeout seconds; 0 when nothing."""
    poller = select.poll()
    poller.register(fd, events)
    told = poller.poll(timeout * 1000)
    return told[0][1] if told else 0


def epoll(fd, timeout=0, events=select.EPOLLIN):
    """The same, with an epoll instance that is made for the occasion."""
    with select.epoll() as ep:
        ep.register(fd, events)
        told = ep.poll(timeout)
        return told[0][1] if told else 0


def select_read(fd, timeout=0):
    return IN if select.select([fd], [], [], timeout)[0] else 0


class Epoll:
    """An epoll instance that lives on in the agent, by its descriptor."""

    @staticmethod
    def new(fd, events=select.EPOLLIN):
        ep = select.epoll()
        ep.register(fd, events)
        number = os.dup(ep.fileno())
        ep.close()
        return number

    @staticmethod
    def wait(number, timeout):
        ep = select.epoll.fromfd(os.dup(number))
        told = ep.poll(timeout)
        ep.close()
        return told[0][1] if told else 0


ways = pytest.mark.parametrize("way", [poll, epoll, select_read])


@ways
def test_readable_below_the_edge(growing, way):
    mount, _ = growing
    reader = mount.reader("f")
    assert reader.call(way) & IN
    assert reader.read(3) == b"hel"
    assert reader.call(way) & IN
    assert reader.call(way) & IN, "level-triggered"


@ways
def test_not_readable_at_the_edge(growing, way):
    mount, _ = growing
    reader = mount.reader("f")
    reader.read()
    assert reader.call(way) == 0
    assert reader.call(way, 0.1) == 0


@ways
def test_growth_wakes(growing, way):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    for i in range(20):
        pending = reader.agent.begin(way, reader.fd, 10)
        pending.wait_blocked("poll", "ppoll", "select", "select6", "epoll_wait", "epoll_pwait")
        writer.write(b"%02d" % i)
        assert pending.result() & IN
        assert reader.read() == b"%02d" % i
        assert reader.call(way) == 0


@ways
def test_completion_wakes(growing, way):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    pending = reader.agent.begin(way, reader.fd, 10)
    pending.wait_blocked("poll", "ppoll", "select", "select6", "epoll_wait", "epoll_pwait")
    writer.close()
    told = pending.result()
    assert told & IN
    if way is not select_read:
        assert told & HUP and not told & ERR
    assert reader.read() == b""
    assert reader.call(way) & IN, "a read at EOF is not held"


def test_hangup_only_when_complete(growing):
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.call(poll) == IN
    reader.read()
    writer.close()
    mount.wait_state("f", "complete")
    assert reader.call(poll) == IN | HUP
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    assert reader.call(poll) == 0
    again.write(b"x")
    assert reader.call(poll) == IN


def test_an_epoll_instance_is_level_triggered(growing):
    mount, writer = growing
    reader = mount.reader("f")
    ep = reader.agent.call(Epoll.new, reader.fd)
    assert reader.agent.call(Epoll.wait, ep, 1) == IN
    assert reader.agent.call(Epoll.wait, ep, 1) == IN
    reader.read()
    assert reader.agent.call(Epoll.wait, ep, 0) == 0
    for i in range(20):
        pending = reader.agent.begin(Epoll.wait, ep, 10)
        pending.wait_blocked("epoll_wait", "epoll_pwait")
        writer.write(b"%02d" % i)
        assert pending.result() == IN
        assert reader.agent.call(Epoll.wait, ep, 0) == IN
        assert reader.read() == b"%02d" % i
        assert reader.agent.call(Epoll.wait, ep, 0) == 0
    writer.close()
    assert reader.agent.call(Epoll.wait, ep, 10) == IN | HUP


def test_an_edge_triggered_instance_tells_of_growth(growing):
    mount, writer = growing
    reader = mount.reader("f")
    ep = reader.agent.call(Epoll.new, reader.fd, select.EPOLLIN | select.EPOLLET)
    assert reader.agent.call(Epoll.wait, ep, 1) == IN
    assert reader.read() == b"hello"
    for i in range(10):
        pending = reader.agent.begin(Epoll.wait, ep, 10)
        pending.wait_blocked("epoll_wait", "epoll_pwait")
        writer.write(b"%02d" % i)
        assert pending.result() == IN
        assert reader.read() == b"%02d" % i
    pending = reader.agent.begin(Epoll.wait, ep, 10)
    pending.wait_blocked("epoll_wait", "epoll_pwait")
    writer.close()
    assert pending.result() & HUP


def poll_and_read_to_the_end(fd):
    """An event loop with a non-blocking handle: every byte, and no read that waits."""
    os.set_blocking(fd, False)
    got = b""
    while True:
        assert poll(fd, 10), "poll timed out"
        try:
            part = os.read(fd, 1000)
        except BlockingIOError:
            continue
        if not part:
            return got
        got += part


def read_refused(fd, count):
    os.set_blocking(fd, False)
    try:
        os.read(fd, count)
    except BlockingIOError:
        return True
    return False


@ways
def test_a_read_that_was_refused_is_not_called_for_at_once(growing, way):
    """Below a declared size one that asks for more than there is yet; or a loop would spin."""
    mount, writer = growing
    mount.declare("f", 100)
    reader = mount.reader("f")
    assert reader.call(way) & IN
    assert reader.call(read_refused, 50)
    assert not reader.call(way)
    pending = reader.begin(way, 10).wait_blocked_somewhere()
    writer.write(bytes(44))
    pending.wait_blocked_somewhere()
    writer.write(b"!")
    assert pending.result() & IN
    assert reader.read(50) == b"hello" + bytes(44) + b"!"
    writer.write(b"?")
    assert reader.call(way) & IN


def test_an_event_loop_follows_to_the_end(growing):
    mount, writer = growing
    reader = mount.reader("f")
    pending = reader.begin(poll_and_read_to_the_end)
    data = b"hello"
    for i in range(100):
        piece = b"%d." % i * (i * 37 % 400 + 1)
        writer.write(piece)
        data += piece
    writer.close()
    assert pending.result() == data


def test_a_hole_is_not_readable(mount):
    writer = mount.writer("f")
    writer.truncate(1 << 20)
    reader = mount.reader("f")
    assert reader.call(poll) == 0
    pending = reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
    writer.pwrite(b"x" * 10_000, 0)
    assert pending.result() == IN


@pytest.mark.parametrize("events", [OUT, 0])
def test_one_who_waits_for_less_does_not_hide_growth_from_another(growing, events):
    """Both have the same handle."""
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    ep = reader.agent.call(Epoll.new, reader.fd)
    assert reader.agent.call(Epoll.wait, ep, 0) == 0
    for i in range(3):
        assert reader.call(poll, 0, events) == 0
        writer.write(b"%02d" % i)
        assert reader.agent.call(Epoll.wait, ep, 5) == IN
        assert reader.read() == b"%02d" % i
        assert reader.agent.call(Epoll.wait, ep, 0) == 0


def read_refused_at(fd, offset):
    os.lseek(fd, offset, os.SEEK_SET)
    return read_refused(fd, 100)


def test_where_a_read_was_refused_is_waited_for(growing):
    """Or a loop would spin: behind the end, and from the beginning of a file that was emptied."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.call(read_refused_at, 7)
    assert reader.call(poll) == 0
    pending = reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
    writer.write(b"12345")
    assert pending.result() == IN
    assert reader.read() == b"345"
    writer.truncate(0)
    assert reader.call(poll) & IN
    assert reader.errno(os.read, 1) == errno.EIO
    assert reader.call(read_refused_at, 0)
    assert reader.call(poll) == 0
    pending = reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
    writer.pwrite(b"anew", 0)
    assert pending.result() == IN
    assert reader.read() == b"anew"


def test_truncation_wakes(growing):
    """The next read fails, so it is not held."""
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    pending = reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
    writer.truncate(0)
    assert pending.result() & (IN | ERR)


def test_many_pollers(growing):
    mount, writer = growing
    readers = [mount.reader("f") for _ in range(50)]
    for r in readers:
        r.read()
    pending = [r.agent.begin(poll, r.fd, 10).wait_blocked("poll", "ppoll") for r in readers]
    writer.write(b"x")
    assert {p.result() for p in pending} == {IN}


def test_a_poller_can_be_killed(growing):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
    reader.agent.kill()
    assert reader.agent.wait(2) == -signal.SIGKILL
    writer.write(b"x")
    writer.close()
    assert mount.reader("f").read_all() == b"hellox"


def test_closed_while_registered(growing):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    ep = reader.agent.call(Epoll.new, reader.fd)
    assert reader.agent.call(Epoll.wait, ep, 0) == 0
    reader.close()
    writer.write(b"x")
    writer.close()
    assert reader.agent.call(Epoll.wait, ep, 0) == 0


def test_writers_can_always_write(growing):
    _, writer = growing
    assert writer.call(poll, 1, IN | OUT) & OUT


def test_a_complete_file_is_readable(mount):
    mount.write_file("f", b"hello")
    reader = mount.reader("f")
    for _ in range(2):
        assert reader.call(poll, 1) & IN
        assert reader.call(select_read, 1)
        reader.read()


# -- plain handles of a growing file: growth since last told


@pytest.fixture
def plain(growing):
    mount, writer = growing
    reader = mount.reader("f", os.O_NONBLOCK)
    assert reader.read() == b"hello"
    assert reader.read() == b""
    reader.call(poll)
    reader.call(poll)
    return mount, writer, reader


def test_plain_told_of_growth(plain):
    _, writer, reader = plain
    for i in range(10):
        if reader.call(poll):  # growth may be told once more: epoll asks twice
            assert reader.call(poll) == 0
        pending = reader.agent.begin(poll, reader.fd, 10).wait_blocked("poll", "ppoll")
        writer.write(b"%02d" % i)
        assert pending.result() == IN
        assert reader.read() == b"%02d" % i
        assert reader.read() == b""


def test_plain_growth_before_the_poll_is_told(plain):
    _, writer, reader = plain
    for _ in range(10):
        writer.write(b"x")
        assert reader.call(poll, 10) == IN
        assert reader.read() == b"x"


def test_plain_growth_before_registering_with_epoll_is_told(plain):
    _, writer, reader = plain
    writer.write(b"x")
    ep = reader.agent.call(Epoll.new, reader.fd)
    assert reader.agent.call(Epoll.wait, ep, 5) == IN
    reader.read()
    for i in range(10):
        reader.agent.call(Epoll.wait, ep, 0)
        if i % 2:
            pending = reader.agent.begin(Epoll.wait, ep, 10)
            pending.wait_blocked("epoll_wait", "epoll_pwait")
            writer.write(b"x")
            assert pending.result() == IN
        else:
            writer.write(b"x")
            assert reader.agent.call(Epoll.wait, ep, 5) == IN
        assert reader.read() == b"x"
        assert reader.read() == b""


def test_plain_growth_is_not_told_to_who_did_not_ask(plain):
    _, writer, reader = plain
    ep = reader.agent.call(Epoll.new, reader.fd)
    reader.agent.call(Epoll.wait, ep, 0)
    reader.agent.call(Epoll.wait, ep, 0)
    writer.write(b"x")
    for _ in range(3):
        assert reader.call(poll, 0, OUT) == 0
    assert reader.agent.call(Epoll.wait, ep, 5) == IN
    assert reader.read() == b"x"


class OneShot(Epoll):
    @staticmethod
    def new(fd):
        return Epoll.new(fd, select.EPOLLIN | select.EPOLLONESHOT)

    @staticmethod
    def renew(number, fd):
        with select.epoll.fromfd(os.dup(number)) as ep:
            ep.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)


def test_plain_growth_before_it_is_asked_for_anew_is_told(plain):
    """epoll_ctl(2) asks, too, but it is epoll_wait(2) that tells."""
    _, writer, reader = plain
    ep = reader.agent.call(OneShot.new, reader.fd)
    for i in range(10):
        pending = reader.agent.begin(Epoll.wait, ep, 10).wait_blocked("epoll_wait", "epoll_pwait")
        writer.write(b"%02d" % i)
        assert pending.result() == IN
        assert reader.read() == b"%02d" % i
        writer.write(b"more")
        assert reader.read() == b"more"
        writer.write(b"x")
        reader.agent.call(OneShot.renew, ep, reader.fd)
        assert reader.agent.call(Epoll.wait, ep, 5) == IN
        assert reader.read() == b"x"
        reader.agent.call(OneShot.renew, ep, reader.fd)
        if reader.agent.call(Epoll.wait, ep, 0):  # once more
            reader.agent.call(OneShot.renew, ep, reader.fd)


def test_plain_growth_that_another_epoll_instance_heard_of_is_told(plain):
    _, writer, reader = plain
    first = reader.agent.call(Epoll.new, reader.fd)
    for _ in range(10):
        while reader.agent.call(Epoll.wait, first, 0):
            pass
        writer.write(b"x")
        reader.agent.call(os.close, first)
        first = reader.agent.call(Epoll.new, reader.fd)
        assert reader.agent.call(Epoll.wait, first, 5) == IN
        assert reader.read() == b"x"


def test_plain_growth_to_the_size_before_a_cut_is_told(plain):
    _, writer, reader = plain
    writer.truncate(0)
    writer.pwrite(b"anew!", 0)
    ep = reader.agent.call(Epoll.new, reader.fd)
    assert reader.agent.call(Epoll.wait, ep, 5) == IN
    assert reader.pread(10, 0) == b"anew!"


@ways
def test_plain_told_of_completion(plain, way):
    _, writer, reader = plain
    pending = reader.agent.begin(way, reader.fd, 10)
    pending.wait_blocked("poll", "ppoll", "select", "select6", "epoll_wait", "epoll_pwait")
    writer.close()
    told = pending.result()
    assert told
    if way is not select_read:
        assert told & HUP
    assert reader.call(poll) & HUP, "level-triggered"
    assert reader.read() == b""


def test_plain_event_loop_follows_to_the_end(plain):
    """What rww-httpd does: read until 0, then poll."""
    _, writer, reader = plain
    pending = reader.begin(read_then_poll)
    data = b""
    for i in range(200):
        piece = b"%d." % i * (i * 37 % 400 + 1)
        writer.write(piece)
        data += piece
    writer.close()
    assert pending.result() == data


def read_then_poll(fd):
    got, complete = b"", False
    while True:
        part = os.read(fd, 1000)
        got += part
        if not part:
            if complete:
                return got
            told = poll(fd, 10)
            assert told, "poll timed out"
            complete = bool(told & HUP)


def test_held_and_polled_together(growing):
    mount, writer = growing
    reader, poller, plain = mount.reader("f"), mount.reader("f"), mount.reader("f", os.O_NONBLOCK)
    for r in (reader, poller, plain):
        r.read()
    plain.call(poll)
    plain.call(poll)
    held = reader.begin_read().wait_held()
    polls = [r.agent.begin(poll, r.fd, 10).wait_blocked("poll", "ppoll") for r in (poller, plain)]
    writer.write(b"x")
    assert held.result() == b"x"
    assert [p.result() for p in polls] == [IN, IN]
    procs.wait_until(lambda: mount.waiting() == 0, "no request to be outstanding")
