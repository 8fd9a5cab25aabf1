# SPDX-License-Identifier: MIT
"""Bodies of 16 MiB and more, of which rww-httpd sends all but the last byte past its library."""
import os
import signal
import socket
import threading
import time

import pytest

from harness import procs, server
from harness.data import pattern, pieces
from harness.tools import Image

pytestmark = [pytest.mark.sanitize, pytest.mark.modes("on", "off")]

LONG = 16 << 20
SIZE = LONG + (1 << 20) + 17
DATA = pattern(SIZE, seed=7)
OTHER = pattern(SIZE, seed=8)


@pytest.fixture
def long_file(mount):
    mount.write_file("f.bin", DATA)
    return mount


def begin(web, target="/f.bin", **kwargs):
    """A download of which the server can have sent no more than the sockets hold."""
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    response = client.request(target, **kwargs)
    assert response.some()
    return response


# -- complete files

@pytest.mark.parametrize("version, value, first, last", [
    ("1.1", None, 0, SIZE - 1), ("1.0", None, 0, SIZE - 1), ("1.1", "bytes=1000-", 1000, SIZE - 1),
    ("1.1", f"bytes=5-{4 + LONG}", 5, 4 + LONG), ("1.0", f"bytes=-{LONG}", SIZE - LONG, SIZE - 1)])
def test_all_bytes_and_the_end_of_the_connection(long_file, web, version, value, first, last):
    response = web.request("/f.bin", version=version, Range=value)
    length = last - first + 1
    assert response.status == (206 if value else 200)
    assert response.headers["content-length"] == str(length)
    assert response.headers["connection"].lower() == "close"
    assert response.rest() == DATA[first:last + 1]
    assert response.client.socket.recv(1) == b"", "no reset"
    (line,) = web.logged(1)
    assert (line["bytes"], line["outcome"]) == (length, "ok")
    assert web.metric("sent_bytes_total") == length
    assert web.metric("cuts_total") == 0


def test_what_is_shorter_keeps_its_connection(long_file, web):
    client = web.connect()
    for _ in range(2):
        response = client.request("/f.bin", Range=f"bytes=0-{LONG - 2}")
        assert response.rest() == DATA[:LONG - 1]
    response = client.request("/f.bin", "HEAD")
    assert response.headers["content-length"] == str(SIZE)
    assert client.request("/f.bin", Range="bytes=0-9").rest() == DATA[:10]


def test_over_tls(long_file, serve, tmp_path):
    web = serve(long_file.mnt, *server.certificate(tmp_path), identity=long_file.identity())
    client = web.connect()
    for _ in range(2):
        assert client.request("/f.bin").rest() == DATA


def test_many_at_once_and_others_meanwhile(long_file, web):
    long_file.write_file("small", b"small")
    right = []
    stalled = begin(web)
    threads = [threading.Thread(target=lambda: right.append(web.request("/f.bin").rest() == DATA))
               for _ in range(12)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert web.get("/small") == b"small"
    for thread in threads:
        thread.join()
    assert right == [True] * 12
    assert DATA.endswith(stalled.rest())


def test_who_does_not_read_is_let_go(long_file, serve):
    web = serve(long_file.mnt, "--idle-timeout=1", identity=long_file.identity())
    stalled = begin(web)
    (line,) = web.logged(1)
    assert line["outcome"] == "timeout" and 0 < line["bytes"] < SIZE
    stalled.cut()
    web.wait_metric("connections", 0)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_clients_that_leave(long_file, web, how):
    for _ in range(10):
        getattr(begin(web).client, how)()
    for line in web.logged(10):
        assert line["outcome"] == "client gone" and line["bytes"] < SIZE
    web.wait_metric("connections", 0)


def test_a_request_behind_it_gets_no_answer_but_spoils_nothing(long_file, web):
    """As the header says."""
    response = begin(web)
    response.client.begin("/f.bin").begin("/f.bin")
    assert DATA.endswith(response.rest())
    assert response.client.is_closed()
    assert len(web.logged(1)) == 1


def test_a_client_that_only_sends_no_more_gets_all(long_file, web):
    """As "nc -N" does, and as one that wants less."""
    client = web.connect()
    client.begin("/f.bin").socket.shutdown(socket.SHUT_WR)
    assert client.response().rest() == DATA
    response = begin(web)
    response.client.socket.shutdown(socket.SHUT_WR)
    assert DATA.endswith(response.rest())
    assert [line["outcome"] for line in web.logged(2)] == ["ok", "ok"]


@pytest.mark.parametrize("contents", [OTHER, OTHER[:LONG], b""], ids=["as long", "shorter", "none"])
def test_a_file_that_is_rewritten_meanwhile_is_cut(long_file, web, contents):
    """Before the server's next look, which comes after half a second."""
    for _ in range(2):
        response = begin(web)
        long_file.write_file("f.bin", contents)
        how, body = response.cut()
        assert how in ("closed", "reset") and len(body) < SIZE
        long_file.write_file("f.bin", DATA)
    assert all(line["outcome"] != "ok" for line in web.logged(2))


@pytest.fixture
def coarse(base):
    """A store whose clock shows whole seconds."""
    image = Image(base, "ext4", 64 << 20, mkfs=("-q", "-I", "128", "-O", "^has_journal"))
    yield image.path
    image.end()


def seconds_that_begin():
    """For what is to be done within one, which takes a few on a busy machine."""
    until = time.monotonic() + procs.seconds(60)
    while time.monotonic() < until:
        procs.wait_until(lambda: time.time() % 1 < 0.1, "a second to begin")
        yield
    raise AssertionError("nothing was ever done within one second")


@pytest.mark.modes("on")  # the other ones take longer to write it
def test_a_file_that_is_rewritten_within_one_tick_is_cut(coarse, mode, make_mount, serve):
    mount = make_mount(mode, store=coarse)
    web = serve(mount.mnt)
    mount.write_file("f.bin", DATA[:-1])
    for _ in seconds_that_begin():
        last = mount.writer("f.bin", os.O_WRONLY | os.O_APPEND, mount.probe)
        last.write(DATA[-1:])
        last.close()
        mount.wait_state("f.bin", "complete")
        before = mount.stat("f.bin").st_ctime_ns
        response = begin(web)
        procs.pause(web.pid)
        mount.write_file("f.bin", OTHER)
        web.process.send_signal(signal.SIGCONT)
        response.cut()
        tag = web.request("/f.bin", "HEAD").headers["etag"]
        if mount.stat("f.bin").st_ctime_ns == before and time.time_ns() - before < 10**9:
            assert tag.startswith("W/")
            return
        mount.write_file("f.bin", DATA[:-1])


def test_what_was_rewritten_within_one_tick_is_not_taken_for_the_same(coarse, mode, make_mount,
                                                                      serve):
    """By who asks later whether what he has is still the file."""
    mount = make_mount(mode, store=coarse)
    web = serve(mount.mnt)
    for _ in seconds_that_begin():
        mount.write_file("f", b"old")
        before = mount.stat("f").st_ctime_ns
        old = web.request("/f")
        assert old.rest() == b"old"
        mount.write_file("f", b"new")
        if mount.stat("f").st_ctime_ns == before:
            break
    procs.wait_until(lambda: not web.request("/f").headers["etag"].startswith("W/"), "its age")
    assert web.get("/f", If_None_Match=old.headers["etag"]) == b"new"


@pytest.mark.parametrize("value", [None, f"bytes=0-{LONG - 2}"], ids=["long", "shorter"])
def test_who_stalls_while_a_file_is_rewritten_did_not_leave(long_file, web, value):
    """The server's next look says what became of it."""
    response = begin(web, Range=value)
    long_file.write_file("f.bin", OTHER)
    (line,) = web.logged(1)
    assert line["outcome"] == "aborted" and line["bytes"] < SIZE
    assert web.metric("cuts_total") == 1
    response.cut()


def test_a_file_that_grows_meanwhile_is_sent_as_it_was(long_file, web):
    response = begin(web)
    writer = long_file.writer("f.bin", os.O_WRONLY | os.O_APPEND)
    writer.write(b"more")
    assert DATA.endswith(response.rest())
    writer.close()


@pytest.mark.parametrize("timeout, whole", [("20", True), ("0.1", False)])
def test_a_drain(long_file, serve, timeout, whole):
    web = serve(long_file.mnt, f"--drain-timeout={timeout}", identity=long_file.identity())
    if not whole:
        web.allow_log("cutting 1 connections")
    response = begin(web)
    web.process.send_signal(signal.SIGTERM)
    if whole:
        assert DATA.endswith(response.rest())
    assert web.wait() == 0
    if not whole:
        response.cut()


# -- growing files with a long declared size

@pytest.fixture
def declared(mount):
    writer = mount.writer("f.bin")
    writer.write(DATA[:100])
    mount.declare("f.bin", SIZE)
    return mount, writer


def followers(web, count, **kwargs):
    responses = [web.request("/f.bin", **kwargs) for _ in range(count)]
    for response in responses:
        assert response.headers["content-length"] == str(SIZE)
        assert response.headers["connection"].lower() == "close"
        assert response.exactly(100) == DATA[:100]
    web.wait_held(count)
    return responses


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_followers_get_all_of_a_declared_file(declared, web, version):
    _, writer = declared
    responses, bodies = followers(web, 6, version=version), []
    writer.write(DATA[100:5000])
    for response in responses:
        assert response.exactly(4900) == DATA[100:5000], "at once"
    threads = [threading.Thread(target=lambda r: bodies.append(r.rest()), args=(r,))
               for r in responses]
    for thread in threads:
        thread.start()
    for record in pieces(DATA[5000:], 5, 1 << 20):
        writer.write(record)
    for thread in threads:
        thread.join()
    assert len(bodies) == 6 and all(body == DATA[5000:] for body in bodies)
    writer.close()
    for response in responses:
        assert response.client.socket.recv(1) == b"", "no reset"
    for line in web.logged(6):
        assert (line["bytes"], line["outcome"]) == (SIZE, "ok")


@pytest.mark.parametrize("last", [1, 5000, 40_000])
def test_the_last_bytes_come_alone(declared, web, last):
    _, writer = declared
    responses = followers(web, 3)
    writer.write(DATA[100:SIZE - last])
    for response in responses:
        assert response.exactly(SIZE - last - 100) == DATA[100:SIZE - last]
    web.wait_held(3)
    writer.write(DATA[SIZE - last:])
    for response in responses:
        assert response.rest() == DATA[SIZE - last:]
    writer.close()


@pytest.mark.parametrize("how", ["closed short", "aborted", "too long", "started over", "killed"])
def test_a_broken_promise_cuts_its_followers(declared, web, how):
    mount, writer = declared
    responses = followers(web, 3)
    writer.write(DATA[100:SIZE - 5])
    for response in responses:
        assert response.exactly(SIZE - 105) == DATA[100:SIZE - 5]
    web.wait_held(3)
    if how == "closed short":
        writer.close()
    elif how == "aborted":
        mount.abort("f.bin")
    elif how == "too long":
        writer.write(DATA[SIZE - 5:] + b"!")
    elif how == "started over":
        procs.pause(web.pid)
        writer.truncate(0)
        writer.pwrite(OTHER, 0)
        web.process.send_signal(signal.SIGCONT)
    else:
        writer.agent.kill()
    for response in responses:
        assert response.cut() == ("closed", b"")
    assert web.metric("cuts_total") == 3


def test_a_declared_file_that_starts_over_while_its_end_is_sent(declared, web):
    mount, writer = declared

    def read():
        try:
            ends.append(DATA.endswith(response.rest()))  # before it started over
        except server.Cut:
            ends.append(True)

    for turn in range(4):
        writer.pwrite(DATA, 0)
        response, ends = begin(web), []
        reading = threading.Timer(turn / 500, read)
        reading.start()
        writer.truncate(0)
        mount.declare("f.bin", SIZE)
        writer.pwrite(OTHER, 0)
        reading.join()
        assert ends == [True], "it ended well, with bytes of both"


def test_a_declared_file_for_who_reads_slowly(declared, web):
    _, writer = declared
    response = begin(web)
    writer.write(DATA[100:])
    writer.close()
    assert DATA.endswith(response.rest())


def test_a_range_that_is_there_keeps_its_connection(declared, web):
    _, writer = declared
    writer.write(DATA[100:-1])
    client = web.connect()
    for _ in range(2):
        response = client.request("/f.bin", Range=f"bytes=1-{LONG + 1}")
        assert response.rest() == DATA[1:LONG + 2]
    writer.write(DATA[-1:])
    writer.close()
