# SPDX-License-Identifier: MIT
"""rww-httpd looks at a complete file while it is sent: what is no harm to it cuts nothing."""
import os
import signal
import socket

import pytest

from harness import procs
from harness.data import pattern

pytestmark = [pytest.mark.modes("on")]

SIZE = 3 << 20


@pytest.fixture
def tls(serve, mount, pem):
    return serve(mount.mnt, *pem)


def slow_client(web):
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return client


def test_what_is_found_too_late_does_not_cut_the_next_answer(web, mount):
    """The mount dies while it is asked; what is left of the body comes without it."""
    mount.write_file("f.bin", pattern(SIZE))
    client = slow_client(web).begin("/f.bin").begin("/", "OPTIONS")
    response = client.response()
    procs.pause(mount.pid)
    procs.wait_until(lambda: procs.blocked_in(web.pid, "fgetxattr"), "the look")
    assert response.rest() == pattern(SIZE)
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    assert client.response().status == 204


def test_an_append_whose_time_is_seen_before_its_size_cuts_nothing(web, mount):
    """A write sets the time first. Here it is set by itself, for a look that comes between."""
    mount.write_file("f.bin", pattern(SIZE))
    response = slow_client(web).request("/f.bin")
    writer = mount.open("f.bin", os.O_WRONLY | os.O_APPEND)
    procs.pause(mount.pid)
    setting = writer.begin(os.utime)
    procs.wait_until(lambda: procs.blocked_in(web.pid, "fgetxattr"), "the look")
    os.kill(web.pid, signal.SIGSTOP)  # with the answer that it is about to get
    os.kill(mount.pid, signal.SIGCONT)
    setting.result()
    procs.pause(web.pid)
    writer.write(b"more")
    os.kill(web.pid, signal.SIGCONT)
    assert response.rest() == pattern(SIZE)


def begin(web, mount, size=17 << 20):
    """A body whose end comes when the mount was asked whether it is still the same, as any does over TLS."""
    mount.write_file("f.bin", b"a" * size)
    response = web.request("/f.bin")
    assert response.some()
    return response


@pytest.mark.parametrize("times", [None, (1, 1)])
def test_touch_takes_nothing_back(web, mount, times):
    response = begin(web, mount)
    os.utime(mount.path("f.bin"), times)
    assert len(response.rest()) > 16 << 20


def test_what_was_written_is_not_hidden_by_the_old_time(web, mount):
    """Nor by a time that it had for a while."""
    response = begin(web, mount)
    then = mount.stat("f.bin").st_mtime_ns
    os.utime(mount.path("f.bin"), (1, 1))
    writer = mount.open("f.bin", os.O_WRONLY)
    writer.pwrite(b"b", 16 << 20)
    writer.close()
    for time in 10**9, then:
        os.utime(mount.path("f.bin"), ns=(time, time))
    response.cut()


def test_a_body_over_tls_ends_well_only_if_it_was_not_rewritten(tls, mount):
    """It may be through before it is looked at."""
    mount.write_file("g.bin", pattern(SIZE))
    client = tls.connect()
    for value, wanted in (None, pattern(SIZE)), ("bytes=100-99999", pattern(SIZE)[100:100_000]):
        assert client.request("/g.bin", Range=value).rest() == wanted
    response = begin(tls, mount)
    writer = mount.open("f.bin", os.O_WRONLY)
    with procs.stopped_thread(tls.pid):  # which looks every now and then
        writer.pwrite(b"b", 16 << 20)
        writer.close()
        assert len(response.cut()[1]) < 17 << 20


@pytest.mark.parametrize("how", ["written over", "appended to", "touched"])
def test_a_follower_that_is_behind_when_its_file_is_written_again(web, mount, how):
    data = bytes(SIZE)
    writer = mount.writer("f")
    writer.write(data)
    response, other = slow_client(web).request("/f"), web.request("/f")
    assert other.exactly(SIZE) == data
    writer.close()
    assert other.rest() == b""  # the server knows that it is complete
    again = mount.open("f", os.O_WRONLY if how != "touched" else os.O_RDONLY)
    if how == "touched":
        os.utime(mount.path("f"), (1, 1))
    else:
        again.pwrite(b"b" * 1000, SIZE - 1000 * (how == "written over"))
    again.close()
    if how == "written over":
        response.cut()
    else:
        assert response.rest() == data
