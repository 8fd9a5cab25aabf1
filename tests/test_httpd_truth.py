# SPDX-License-Identifier: MIT
"""rww-httpd against writers who change their mind: no wrong byte, no clean end of half a file."""
import os
import re
import signal
import socket
import ssl
import time

import pytest

from harness import procs, server
from harness.data import pattern
from harness.mount import is_sanitized

pytestmark = [pytest.mark.sanitize, pytest.mark.modes("on", "off")]


def rewrite(web, writer, data):
    """The server is stopped meanwhile: it does not see the file while it is short."""
    procs.pause(web.pid)
    writer.truncate(0)
    writer.pwrite(data, 0)
    web.process.send_signal(signal.SIGCONT)


# -- the file starts over

@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_file_rewritten_under_a_follower_is_not_continued(growing, version):
    mount, web, writer = growing
    response = web.request("/f.txt", version=version)
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    rewrite(web, writer, b"x" * 5000)
    assert response.cut()[1] == b""
    writer.close()
    assert web.get("/f.txt") == b"x" * 5000


def test_a_file_opened_afresh_under_a_follower_is_not_continued(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    procs.pause(web.pid)
    other = mount.writer("f.txt", os.O_WRONLY | os.O_TRUNC)
    other.write(b"x" * 5000)
    web.process.send_signal(signal.SIGCONT)
    assert response.cut()[1] == b""
    fresh = web.request("/f.txt")
    assert fresh.exactly(5000) == b"x" * 5000
    writer.close()
    other.close()
    assert fresh.rest() == b""


def test_a_declared_file_rewritten_under_a_follower_is_not_continued(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 5000)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    rewrite(web, writer, b"x" * 5000)
    assert response.cut()[1] == b""
    writer.close()


def test_a_declared_file_that_is_cut_holds_no_worker(growing):
    mount, web, writer = growing
    mount.write_file("other", b"other")
    mount.declare("f.txt", 5000)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    procs.pause(web.pid)
    clients = [web.connect().begin("/f.txt") for _ in range(8)]
    writer.truncate(0)
    web.process.send_signal(signal.SIGCONT)
    assert response.cut()[1] == b""
    for _ in range(8):
        assert web.get("/other") == b"other"
    writer.write(b"x" * 4900)
    writer.close()
    for client in clients:
        client.close()


def test_a_slow_client_never_gets_a_clean_end_of_two_files(mount, web):
    """What is read below the edge may be new already when the file starts over; its end tells."""
    size = 40 << 20
    writer = mount.writer("f.bin")
    writer.write(b"o" * size)
    response = web.request("/f.bin")
    assert response.some()
    rewrite(web, writer, b"n" * size)
    writer.close()
    try:
        body = response.rest()
    except server.Cut:
        return
    assert b"n" not in body


@pytest.mark.parametrize("headers", [{}, {"Range": f"bytes=0-{(24 << 20) - 1}"}], ids=["whole", "range"])
def test_a_slow_client_never_gets_a_clean_end_of_two_files_of_a_mount_that_died(
        serve, mode, make_mount, headers):
    """What was rewritten can still be read, but nobody tells that it was."""
    old, new = pattern(24 << 20), bytes(24 << 20)
    mount = make_mount(mode)
    web = serve(mount.mnt)
    web.allow_log("lost a growing file|cannot read /f: (Transport endpoint is not|Software caused)")
    writer = mount.writer("f")
    writer.write(old)
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    response = client.request("/f", **headers)
    assert response.some()
    other = web.request("/f")
    assert other.exactly(len(old)) == old
    writer.close()
    assert other.rest() == b""
    mount.write_file("f", new)
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    assert response.cut()[0] == "closed"


def test_space_given_back_is_no_truncation(growing):
    """A downloader that preallocates, and cuts what it did not need."""
    mount, web, writer = growing
    writer.call(os.posix_fallocate, 0, 1 << 20)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.truncate(100)
    web.wait_held(1)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


# -- a promise that was not kept

@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-"}])
def test_a_declared_size_that_is_overwritten_is_no_end(growing, headers):
    mount, web, writer = growing
    mount.declare("f.txt", 200)
    response = web.request("/f.txt", **headers)
    first = int(headers.get("Range", "=0-")[:-1].split("=")[1])
    assert response.exactly(100 - first) == pattern(100)[first:]
    web.wait_held(1)
    writer.write(b"x" * 500)
    assert response.cut()[1] == b""
    writer.close()
    assert len(web.get("/f.txt")) == 600


def test_a_size_declared_anew_is_no_end(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 200)
    response = web.request("/f.txt")
    assert response.headers["content-length"] == "200"
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    mount.declare("f.txt", 300)
    procs.wait_until(lambda: web.request("/f.txt", "HEAD").headers["content-length"] == "300",
                     "the new size")
    writer.write(b"x" * 150)
    assert response.cut()[1] == b""
    writer.write(b"x" * 50)
    writer.close()


def test_a_size_declared_later_changes_no_answer_that_runs(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.chunked and response.exactly(100) == pattern(100)
    web.wait_held(1)
    mount.declare("f.txt", 104)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


def test_declared_and_completed_short_is_no_end(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 200)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    mount.probe.call(os.setxattr, mount.path("f.txt"), "user.rww.state", b"complete")
    assert response.cut()[1] == b""
    writer.close()


def test_declared_and_aborted(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 200)
    mount.abort("f.txt")
    response = web.request("/f.txt")
    assert response.headers["content-length"] == "200"
    assert response.cut()[1] == pattern(100)
    assert web.request("/f.txt", Range="bytes=-10").status == 500
    assert web.request("/f.txt", Range="bytes=90-").cut()[1] == pattern(100)[90:]
    assert web.request("/f.txt", Range="bytes=200-").status == 416
    assert web.request("/f.txt", "HEAD").headers["content-length"] == "200"


# -- names that move

def test_followers_keep_a_file_that_is_unlinked_renamed_or_replaced(mount, web):
    for what in ("unlink", "rename", "replace"):
        writer = mount.writer(what)
        writer.write(b"begin")
        response = web.request(f"/{what}")
        assert response.exactly(5) == b"begin"
        web.wait_held(1)
        if what == "unlink":
            mount.probe.call(os.unlink, mount.path(what))
        elif what == "rename":
            mount.probe.call(os.rename, mount.path(what), mount.path("elsewhere"))
        else:
            mount.write_file("other", b"another")
            mount.probe.call(os.rename, mount.path("other"), mount.path(what))
        writer.write(b"end")
        assert response.exactly(3) == b"end"
        writer.close()
        assert response.rest() == b""
        if what == "replace":
            assert web.get("/replace") == b"another"
        else:
            assert web.request(f"/{what}").status == 404


@pytest.mark.parametrize("wanted", ["bytes=100-149", "bytes=100-"])
@pytest.mark.parametrize("what", ["unlink", "rename", "replace"])
def test_a_held_range_keeps_a_file_that_is_unlinked_renamed_or_replaced(growing, what, wanted):
    mount, web, writer = growing
    mount.write_file("other", b"another" * 100)
    client = web.connect().begin("/f.txt", Range=wanted)
    web.wait_held(1)
    procs.pause(web.pid)  # it hears of growth and end at once
    writer.write(pattern(50))
    writer.close()
    if what == "unlink":
        mount.probe.call(os.unlink, mount.path("f.txt"))
    else:
        names = ("f.txt", "elsewhere") if what == "rename" else ("other", "f.txt")
        mount.probe.call(os.rename, *map(mount.path, names))
    web.process.send_signal(signal.SIGCONT)
    response = client.response()
    assert (response.status, response.rest()) == (206, pattern(50))
    assert response.headers["content-range"] in ("bytes 100-149/150", "bytes 100-149/*")


def test_an_aborted_file_that_is_continued_ends_well(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.agent.kill()
    assert response.cut()[1] == b""
    mount.wait_state("f.txt", "aborted")
    again = mount.writer("f.txt", os.O_WRONLY | os.O_APPEND)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    again.write(b"more")
    again.close()
    assert response.rest() == b"more"


# -- ends that only the connection tells

@pytest.mark.parametrize("version, headers", [
    ("1.1", {"Connection": "close"}), ("1.0", {"Connection": "keep-alive"}), ("1.0", {})])
def test_the_end_of_an_aborted_file_is_told_however_the_connection_is_kept(
        growing, version, headers):
    mount, web, writer = growing
    response = web.request("/f.txt", version=version, **headers)
    assert response.chunked == (version == "1.1")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    mount.abort("f.txt")
    assert response.cut() == ("closed" if version == "1.1" else "reset", b"")


def test_half_a_file_does_not_end_well_for_who_stops_sending(growing):
    """Who shuts down the sending side counts as gone, and may not take that for the end."""
    mount, web, writer = growing
    response = web.request("/f.txt", version="1.0")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    response.client.socket.shutdown(socket.SHUT_WR)
    assert response.cut() == ("reset", b"")
    writer.close()


def test_half_a_file_does_not_end_well_for_who_reads_too_slowly(serve, mount):
    web = serve(mount.mnt, "--idle-timeout=1", identity=mount.identity())
    writer = mount.writer("f.bin")
    writer.write(b"x" * (32 << 20))
    response = web.request("/f.bin", version="1.0")
    web.wait_metric("connections", 0)
    how, body = response.cut()
    assert how == "reset" and len(body) < 32 << 20
    writer.close()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_half_a_file_does_not_end_well_when_the_server_stops(serve, mount, version):
    web = serve(mount.mnt, "--drain-timeout=0", identity=mount.identity())
    web.allow_log(r"cutting \d connections")
    writer = mount.writer("f.bin")
    writer.write(b"x" * (32 << 20))
    busy, waiting = (web.request("/f.bin", version=version) for _ in range(2))
    assert waiting.exactly(32 << 20)
    web.wait_held(1)
    web.process.send_signal(signal.SIGTERM)
    assert waiting.cut()[1] == b""
    assert len(busy.cut()[1]) < 32 << 20
    assert web.wait() == 0
    writer.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("version, how", [("1.1", "closed"), ("1.0", "reset")])
def test_half_a_file_does_not_end_well_when_the_server_is_killed(
        serve, mount, tmp_path, version, how, tls):
    web = serve(mount.mnt, *(server.certificate(tmp_path) if tls else ()), identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(b"begin")
    response = web.request("/f.txt", version=version)
    assert response.exactly(5) == b"begin"
    web.wait_held(1)
    procs.kill(web.pid)
    assert web.wait() == -signal.SIGKILL
    try:
        assert response.cut() == (how, b"")
    except ssl.SSLEOFError:  # no goodbye
        assert tls
    writer.close()


def test_draining_does_not_change_how_an_end_is_told(serve, mount):
    web = serve(mount.mnt, "--drain-timeout=60", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(b"begin")
    held = web.connect().begin("/f.txt", Range="bytes=5-9007199254740991")
    web.wait_held(1)
    web.process.send_signal(signal.SIGTERM)
    procs.wait_until(lambda: b"draining" in health(web), "the drain to begin")
    writer.write(b"more")
    response = held.response()
    assert response.chunked and response.headers["connection"] == "close"
    assert response.exactly(4) == b"more"
    writer.agent.kill()
    assert response.cut() == ("closed", b"")
    assert web.wait() == 0


def health(web):
    client = server.Client(web.metrics_port)
    try:
        return client.request("/healthz").rest()
    finally:
        client.close()


def test_requests_behind_a_held_one_are_answered_in_turn(growing):
    mount, web, writer = growing
    client = web.connect()
    for target in ("/f.txt", "/nope", "/f.txt"):
        client.begin(target)
    response = client.response()
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.write(b"end")
    writer.close()
    assert response.rest() == b"end"
    response = client.response()
    assert response.status == 404 and response.rest()
    response = client.response()
    assert response.status == 200 and response.rest() == pattern(100) + b"end"


def test_nothing_follows_an_answer_that_was_cut(growing):
    mount, web, writer = growing
    client = web.connect().begin("/f.txt").begin("/f.txt")
    response = client.response()
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    mount.abort("f.txt")
    assert response.cut() == ("closed", b"")
    assert client.buffer == b""


# -- others follow the file already

def follow_thread(web):
    """It sleeps in the epoll that has the inotify."""
    found = procs.descriptors(web.pid)
    inotify = next(fd for fd, what in found.items() if "inotify" in what)

    def has_it(fd):
        with open(f"/proc/{web.pid}/fdinfo/{fd}") as f:
            return re.search(rf"^tfd: +{inotify} ", f.read(), re.MULTILINE)

    epoll = next(fd for fd, what in found.items() if "eventpoll" in what and has_it(fd))
    for tid in os.listdir(f"/proc/{web.pid}/task"):
        call = procs.syscall(web.pid, tid)
        if call and call[0] == procs.SYSCALLS["epoll_wait"] and call[1][0] == epoll:
            return int(tid)
    return None


@pytest.mark.modes("on")
@pytest.mark.parametrize("what, headers, told, body", [
    ("grew", {"Range": "bytes=-10"}, "bytes 190-199/*", b"x" * 10),
    ("exceeds its size", {}, None, pattern(100) + b"x" * 100),
    ("started over", {}, None, b"x" * 100),
    ("failed", {"Range": "bytes=-10"}, "bytes 190-9007199254740991/*", b"x" * 10)],
    ids=["grew", "exceeds", "afresh", "failed"])
def test_what_came_before_a_request_is_known(serve, mount, what, headers, told, body):
    """Though the thread that follows the file for others has not heard of it."""
    web = serve(mount.mnt, "--threads=1", identity=mount.identity())
    mount.write_file("other", b"other")
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    if what == "exceeds its size":
        mount.declare("f.txt", 150)
    web.request("/f.txt")
    web.wait_held(1)
    with procs.stopped_thread(procs.wait_until(lambda: follow_thread(web), "its sleep")):
        if what == "started over":
            writer.truncate(0)
        writer.pwrite(b"x" * 100, 0 if what == "started over" else 100)
        if what == "failed":
            mount.abort("f.txt")
        client = web.connect().begin("/f.txt", **headers)
        assert web.get("/other") == b"other"  # the one worker has looked at the other request
    response = client.response()
    assert response.headers.get("content-range") == told
    assert ("content-length" in response.headers) == (what == "grew")
    writer.close()
    assert (response.cut()[1] if what == "failed" else response.rest()) == body


# -- a file that is replaced while it is looked at

@pytest.mark.parametrize("size, turns, pause", [(20_000, 20, 0.003), (1 << 20, 5, 0.03)])
def test_a_complete_file_that_is_rewritten_is_never_half(mount, web, size, turns, pause):
    """Requests race with a writer who opens the file afresh, again and again."""
    contents = [bytes([c]) * size for c in b"abcdefgh"]
    mount.write_file("f.bin", contents[0])
    agent = mount.agent()
    rewriting = agent.begin(rewrite_all, mount.path("f.bin"), contents * turns, pause)
    clean = 0
    while not rewriting.done():
        response = web.request("/f.bin")
        try:
            body = response.rest()
        except server.Cut:
            continue
        assert response.status == 200 and body in contents, (len(body), set(body))
        clean += 1
    rewriting.result()
    assert clean


def test_several_ranges_of_a_file_that_is_rewritten_are_cut(mount, web):
    contents = [bytes([c]) * (12 << 20) for c in b"ab"]
    mount.write_file("f.bin", contents[0])
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    response = client.request("/f.bin", Range="bytes=0-99,1000-")
    assert response.some()
    mount.write_file("f.bin", contents[1])
    how, _ = response.cut()
    assert how in ("closed", "reset")


def test_many_who_do_not_read_what_is_in_memory_for_them(mount, web):
    """Of a file of 1 MiB so many have a copy, the others are sent it by the kernel."""
    data = pattern(1 << 20, seed=3)
    mount.write_file("f.bin", data)
    before, clients = procs.rss_kib(web.pid), []
    for _ in range(150):
        client = web.connect()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        for _ in range(4):  # more than the sockets take
            client.begin("/f.bin")
        clients.append((client, client.response()))
    assert is_sanitized() or procs.rss_kib(web.pid) - before < 100 << 10
    for client, response in clients:
        assert response.rest() == data
        for _ in range(3):
            assert client.response().rest() == data


def rewrite_all(path, contents, pause):
    for data in contents:
        with open(path, "wb", buffering=0) as f:
            f.write(data[:5000])
            f.write(data[5000:])
        time.sleep(pause)  # complete for a while


# -- the writer failed though all that it had declared was there

@pytest.mark.parametrize("size", [100, 40_000, 20 << 20])
@pytest.mark.parametrize("headers, wanted", [({}, 0), ({"Range": "bytes=50-"}, 50),
                                             ({"Range": "bytes=-10"}, -10)],
                         ids=["whole", "from", "suffix"])
def test_an_aborted_file_that_has_all_its_declared_bytes_never_ends_well(
        growing, size, headers, wanted):
    mount, web, writer = growing
    mount.declare("f.txt", size)
    writer.pwrite(pattern(size), 0)
    mount.abort("f.txt")
    for version in ("1.1", "1.0"):
        response = web.request("/f.txt", version=version, **headers)
        assert response.cut()[1] == pattern(size)[wanted:-1]
    response = web.request("/f.txt", Range="bytes=10-19")
    assert (response.status, response.rest()) == (206, pattern(20)[10:])


@pytest.mark.parametrize("version, how", [("1.1", "closed"), ("1.0", "reset")])
def test_a_declared_size_of_nothing_is_no_end_either(mount, web, version, how):
    writer = mount.writer("f.txt")
    mount.declare("f.txt", 0)
    followers = [web.request("/f.txt", version=version) for _ in range(2)]
    web.wait_held(2)
    mount.abort("f.txt")
    followers.append(web.request("/f.txt", version=version))
    for response in followers:
        assert response.status == 200 and response.cut() == (how, b"")
    writer.close()


def test_nothing_was_declared_and_nothing_came(mount, web):
    writer = mount.writer("f.txt")
    mount.declare("f.txt", 0)
    response = web.request("/f.txt")
    web.wait_held(1)
    writer.close()
    assert response.rest() == b""


# -- a range is held while the file starts over

@pytest.mark.parametrize("wanted", ["500-2000", "2000-", "2000-9007199254740991"])
@pytest.mark.parametrize("again", ["cut", "by another"])
def test_a_held_range_of_a_file_that_starts_over_is_looked_at_afresh(
        serve, mount, wanted, again):
    web = serve(mount.mnt, "--threads=1", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(pattern(1000))
    client = web.connect().begin("/f.txt", Range=f"bytes={wanted}")
    web.wait_held(1)
    if again == "cut":
        writer.truncate(500)
    else:
        mount.writer("f.txt", os.O_WRONLY | os.O_TRUNC).write(b"x")
    other = web.connect().begin("/f.txt", Range="bytes=0-0")
    assert other.response().status == 206 and client.is_quiet()
    writer.pwrite(pattern(3000, 7), 0)
    response = client.response()
    first = int(wanted.partition("-")[0])
    assert response.status == 206
    assert response.at_least(1000)[:1000] == pattern(3000, 7)[first:][:1000]


# -- a complete file is written over in place, while its body is on its way

def slow_client(web):
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return client


@pytest.mark.parametrize("size", [12 << 20, 20 << 20])
def test_a_complete_file_written_over_in_place_never_ends_well(web, mount, size):
    mount.write_file("f.bin", pattern(size))
    response = slow_client(web).request("/f.bin")
    writer = mount.open("f.bin", os.O_WRONLY)
    writer.pwrite(b"x" * 1000, size - 1000)
    writer.close()
    if size < 16 << 20:  # looked at every half second
        procs.wait_until(lambda: web.metric("cuts_total"), "the look")
    assert len(response.cut()[1]) < size


def test_a_complete_file_that_is_appended_to_is_sent_as_it_was(web, mount):
    mount.write_file("f.bin", pattern(20 << 20))
    response = slow_client(web).request("/f.bin")
    writer = mount.open("f.bin", os.O_WRONLY | os.O_APPEND)
    writer.write(b"more")
    writer.close()
    assert response.rest() == pattern(20 << 20)


# -- no content where there is none

@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9007199254740991"}], ids=["whole", "open"])
@pytest.mark.parametrize("aborted", [False, True], ids=["growing", "aborted"])
def test_head_of_a_file_without_a_length_has_no_content(growing, headers, aborted):
    mount, web, _ = growing
    if aborted:
        mount.abort("f.txt")
    client = web.connect().begin("/f.txt", "HEAD", **headers).begin("/f.txt")
    response = client.response()
    assert response.status == 200 and "content-length" not in response.headers
    assert "transfer-encoding" not in response.headers and response.headers["connection"] == "close"
    assert client.buffer == b"" and client.is_closed()
