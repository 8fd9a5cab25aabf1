# SPDX-License-Identifier: MIT
"""What rww-httpd tells of itself: access log, metrics, health."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import pytest

from harness import procs, server

pytestmark = [pytest.mark.sanitize]

ROOT = os.geteuid() == 0


def test_json_access_log(serve, site):
    web = serve(site)
    web.get("/a.txt?q=%22", Referer='http://x/"\\', User_Agent="tëst\x7f")
    line = json.loads(procs.wait_until(web.access, "the log"))
    assert line["target"] == "/a.txt?q=%22" and line["referer"] == 'http://x/"\\'
    assert (line["status"], line["bytes"], line["method"], line["outcome"]) == (200, 12, "GET", "ok")
    assert line["address"] == "127.0.0.1" and line["user"] is None


def test_combined_access_log(serve, site):
    web = serve(site, "--log-format=combined")
    web.get("/a.txt", Referer='a"b', User_Agent="x\\y")
    line = procs.wait_until(web.access, "the log")
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
                        r'"GET /a\.txt HTTP/1\.1" 200 12 "a\\x22b" "x\\x5Cy"\n', line)


def test_malformed_requests_are_logged(serve, site):
    web = serve(site)
    web.connect().send(b"GET /a.txt HTTP/1.1\r\nno colon here\r\n\r\n").some()
    web.connect().send(b"GET /\x01\x02 HTTP/1.1\r\n\r\n").some()
    lines = procs.wait_until(lambda: len(web.access().splitlines()) == 2 and web.access(), "the log")
    assert [json.loads(x)["status"] for x in lines.splitlines()] == [400, 400]


def test_requests_that_end_before_they_begin_are_logged(serve, site):
    """libmicrohttpd refuses the first three by itself; the last two get no answer."""
    web = serve(site, "--header-timeout=1")
    begin = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n"
    for head, status, outcome in [(b"X: " + b"x" * 30000 + b"\r\n\r\n", 431, "ok"),
                                  (b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 413, "ok"),
                                  (b"no colon here\r\n\r\n", 400, "ok"),
                                  (b"X", 499, "client gone"), (b"X", 408, "timeout")]:
        count = web.access().count("\n")
        client = web.connect().send(begin + head)
        if outcome == "ok":
            assert b" %d " % status in client.some()
        if outcome == "timeout":
            assert client.is_closed()
        client.close()
        line = web.logged(count + 1)[count]
        assert (line["status"], line["outcome"], line["target"]) == (status, outcome, "/a.txt")
    assert web.metric("clients_gone_total") == 1


TLS = [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
UNREADABLE = {
    "one-word": (b"GET\r\n\r\n", 400), "binary": (b"\x16\x03\x01\x02\n", 400),
    "no-method": (b" / HTTP/1.1\r\n\r\n", 400),
    "version": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    "long": (b"GET /" + b"a" * 30000, 414), "late": (b"GET /a.txt", 408),
    "half": (b"GET", 400), "half-target": (b"GET /a.txt", 400),
}


@pytest.mark.parametrize("tls, what", [(tls, what) for tls in TLS for what in UNREADABLE
                                       if not (tls and what.startswith("half"))])
@pytest.mark.parametrize("before", [0, 2])
def test_what_becomes_no_request_is_answered_and_logged(serve, site, pem, what, before, tls):
    """libmicrohttpd tells of none of these, and answers only two of them, or three (1.0.1), with a
    page whose bytes are not counted. The two halves are all that their client sends."""
    raw, status = UNREADABLE[what]
    text = b""
    web = serve(site, "--header-timeout=1", "--idle-timeout=1", *(pem if tls else ()))
    client = web.connect(tls=tls)
    for _ in range(before):
        assert client.request("/a.txt").rest() == b"hello world\n"
    if before:
        client.request("/a.txt", "POST").rest()
        before += 1
    client.send(raw)
    if what.startswith("half"):
        client.socket.shutdown(socket.SHUT_WR)
    if status == 408:
        assert client.is_closed()
    else:
        response = client.response()
        assert response.status == status
        with contextlib.suppress(ConnectionResetError if len(raw) > 16384 else ()):
            text = response.rest()
            assert not client.some()
    line = web.logged(before + 1)[before]
    assert [line[x] for x in ("status", "outcome", "method", "target", "address")] == \
        [status, "timeout" if status == 408 else "ok", None, None, "127.0.0.1"]
    assert text.startswith(b"<html>") or text == (b"400 Bad Request\n" if status == 400 else b"")
    assert line["bytes"] == (0 if text.startswith(b"<html>") else len(text))
    assert web.metric('responses_total{class="%dxx"}' % (status // 100)) == 1 + (before and status < 500)
    client.close()


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("length", [None, 3])
@pytest.mark.parametrize("earlier", [0, 2])
def test_what_comes_with_a_request_is_answered_and_logged(serve, site, what, length, earlier):
    """In one packet: a body that is longer than it says, for example."""
    raw, status = UNREADABLE[what]
    web = serve(site, "--header-timeout=1", "--idle-timeout=1")
    client = web.connect()
    good = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n"
    good += b"\r\n" if length is None else b"Content-Length: %d\r\n\r\nabc" % length
    client.send((good + b"\r\n") * earlier + good + raw)
    if what.startswith("half"):
        client.socket.shutdown(socket.SHUT_WR)
    for _ in range(earlier + 1):
        assert client.response().rest() == b"hello world\n"
    if status == 408:
        assert client.is_closed()
    else:
        assert client.response().status == status
    lines = [(x["status"], x["outcome"], x["target"]) for x in web.logged(earlier + 2)]
    assert lines == [(200, "ok", "/a.txt")] * (earlier + 1) + \
        [(status, "timeout" if status == 408 else "ok", None)]


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("by_library", ["version", "long"])
def test_what_becomes_no_request_at_the_same_time(serve, site, pem, by_library, tls):
    """One thread reads all of them before it closes any. libmicrohttpd answers some, but does not
    say which."""
    web = serve(site, "--threads=1", *(pem if tls else ()))
    sent = [UNREADABLE[x] for x in ("one-word", by_library, "binary", "no-method", by_library)] * 4
    clients = [web.connect(tls=tls) for _ in sent]
    for client in clients[::2]:
        assert client.request("/a.txt").rest() == b"hello world\n"
    web.wait_metric("connections", len(clients))
    procs.pause(web.pid)
    for client, (raw, _) in zip(clients, sent):
        client.send(raw)
    web.process.send_signal(signal.SIGCONT)
    for client, (raw, status) in zip(clients, sent):
        response = client.response()
        assert response.status == status
        with contextlib.suppress(ConnectionResetError if len(raw) > 16384 else ()):
            response.rest()
            assert not client.some()
        client.close()
    lines = web.logged(len(clients[::2]) + len(sent))[len(clients[::2]):]
    assert sorted((x["status"], x["bytes"]) for x in lines) == \
        sorted((status, 16 if status == 400 else 0) for _, status in sent)
    web.wait_metric("connections", 0)
    assert web.access().count("\n") == len(clients[::2]) + len(sent)


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("what", ["version", "long"])
def test_what_the_library_answers_right_behind_a_request(serve, site, pem, what, tls):
    """In one packet with the end of a chunked body, or in one record."""
    raw, status = UNREADABLE[what]
    web = serve(site, *(pem if tls else ()))
    client = web.connect(tls=tls)
    client.send(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + raw)
    assert client.response().rest() == b"hello world\n"
    assert client.response().status == status
    assert [x["status"] for x in web.logged(2)] == [200, status]
    client.close()
    web.wait_metric("connections", 0)
    assert web.access().count("\n") == 2


@pytest.mark.parametrize("half", [b"GET", b"GET /a.txt"])
def test_half_a_first_line_and_the_end_of_it_over_tls(serve, site, pem, half):
    """socat says goodbye and waits for more; one that hangs up without a goodbye can be told nothing."""
    web = serve(site, *pem)
    done = subprocess.run(["socat", "-t", "10", "-", f"OPENSSL:127.0.0.1:{web.port},verify=0"],
                          input=half, capture_output=True, timeout=20, check=True)
    assert done.stdout.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert done.stdout.endswith(b"\r\n\r\n400 Bad Request\n")
    web.connect().send(half).close()
    told, torn = sorted(web.logged(2), key=lambda line: line["outcome"], reverse=True)
    assert (told["status"], told["bytes"], told["outcome"]) == (400, 16, "ok")
    assert (torn["status"], torn["bytes"], torn["outcome"]) == (400, 0, "client gone")


@pytest.mark.parametrize("tls", [False, True])
def test_many_cookies_are_refused(serve, site, pem, tls):
    """libmicrohttpd forgets requests with many small cookies, and closes without an answer."""
    web = serve(site, *(pem if tls else ()))
    sizes = [10, 350, 400, 1000, 1600, 1700, 3000]
    for count in sizes:
        client = web.connect().send(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nCookie: " +
                                    b"; ".join([b"a=b"] * count) + b"\r\n\r\n")
        assert client.response().status == (200 if count == 10 else 431)
        client.close()
    lines = web.logged(len(sizes))
    assert sorted(x["status"] for x in lines) == [200] + [431] * (len(sizes) - 1)
    assert {x["target"] for x in lines} == {"/a.txt"}
    web.wait_metric("connections", 0)


@pytest.mark.parametrize("tls", TLS)
def test_connections_that_end_in_order_leave_no_line(serve, site, pem, tls):
    """A handshake is no request, nor is a goodbye."""
    web = serve(site, "--idle-timeout=1", *(pem if tls else ()), environment=server.WIPE)
    for count, ends in [(0, "goodbye"), (0, "timeout"), (1, "goodbye"), (1, "timeout")]:
        client = web.connect(tls=tls)
        if count:  # an empty line before a request means nothing
            client.send(b"\r\n" + b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n\r\n" * 3)
            for _ in range(3):
                assert client.response().rest() == b"hello world\n"
        for _ in range(count):
            assert client.request("/a.txt").rest() == b"hello world\n"
        if ends == "timeout":
            assert client.is_closed()
        elif tls:
            client.socket.unwrap()
        client.close()
    if tls:
        for handshake in b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n":
            web.connect(tls=None).send(handshake).close()
    web.wait_metric("connections", 0)
    assert len(web.logged(8)) == 8


def test_what_becomes_no_request_in_the_combined_format(serve, site):
    web = serve(site, "--log-format=combined")
    assert web.connect().send(b"\x16\x03\x01\r\n\r\n").response().rest() == b"400 Bad Request\n"
    assert procs.wait_until(web.access, "the log").endswith('] "-" 400 16 "-" "-"\n')


def test_log_is_reopened_on_sighup(serve, site):
    web = serve(site)
    web.get("/a.txt")
    procs.wait_until(web.access, "the log")
    os.rename(web.access_path, web.access_path + ".1")
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: os.path.exists(web.access_path), "the new log")
    web.get("/a.txt")
    procs.wait_until(web.access, "a line in it")


@pytest.mark.skipif(not ROOT, reason="root: mounts a small filesystem")
def test_a_full_disk_breaks_one_line_of_the_log(serve, site, base):
    folder = pathlib.Path(tempfile.mkdtemp(dir=base))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", folder], check=True)
    try:
        (folder / "other").write_bytes(bytes(4096))
        web = serve(site, f"--access-log={folder}/access")
        web.allow_log("cannot write to the access log: No space left on device, ignoring")
        client = web.connect()
        while "No space" not in web.log():
            client.request("/a.txt").rest()
        client.close()
        web.wait_metric("connections", 0)  # nor has its last line any space
        (folder / "other").unlink()
        before = len((folder / "access").read_bytes())
        assert before == 4096
        web.get("/a.txt")
        procs.wait_until(lambda: (folder / "access").stat().st_size > before, "another line")
        lines = (folder / "access").read_text().splitlines()
        assert [line.endswith("}") for line in lines].count(False) == 1
        assert all(line.count("status") <= 1 for line in lines)
        web.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("file", ["fifo", "-"])
def test_a_pipe_that_nobody_reads_does_not_stop_the_service(serve, site, folder, file):
    """Which takes some lines, of which the rest is dropped."""
    os.mkfifo(folder / "fifo")
    with open(os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        web = serve(site, f"--access-log={file if file == '-' else folder / file}", "--threads=1",
                    wrapper=("sh", "-c", f'exec "$0" "$@" > {folder}/fifo'))
        web.allow_log("nobody takes what is written to the access log|lines of the access log were")
        client = web.connect()
        for _ in range(600):
            client.begin("/a.txt", User_Agent="a" * 3000)
            assert client.response().rest() == b"hello world\n"
        client.close()
        web.wait_metric("connections", 0)
        assert pipe.read(2 << 20).count(b"\n") + web.metric("log_lines_dropped_total") == 600
        assert web.log().count("lines are dropped, 1 so far") == 1
        assert web.get("/a.txt") == b"hello world\n"
        procs.wait_until(lambda: pipe.read(2 << 20), "another line")


def test_metrics_and_health(serve, site):
    web = serve(site)
    web.get("/a.txt")
    web.request("/nope").rest()
    web.wait_metric('responses_total{class="2xx"}', 1)
    web.wait_metric('responses_total{class="4xx"}', 1)
    assert web.metric("sent_bytes_total") == 12 + len("404 Not Found\n")
    client = server.Client(web.metrics_port)
    assert client.request("/healthz").rest() == b"ok\n"
    assert client.request("/").rest() == b"404 Not Found\n"
    response = client.request("/metrics", "POST")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    client.close()


def test_the_monitor_is_not_held_by_clients_that_trickle(serve, site):
    web = serve(site, "--header-timeout=1")
    slow = [server.Client(web.metrics_port) for _ in range(64)]  # as many as it takes
    for client, head in zip(slow, [b"GET /healthz HTTP/1.1\r\nX: ",
                                   b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"] * 32):
        client.send(head)
    other = server.Client(web.metrics_port).begin("/healthz")
    other.socket.settimeout(0.05)
    until = time.monotonic() + procs.seconds(10)
    while not other.buffer:
        assert time.monotonic() < until
        with contextlib.suppress(TimeoutError):
            other.more()
        for client in slow:
            with contextlib.suppress(ConnectionError):
                client.send(b"y")
    assert other.response().rest() == b"ok\n"
    for client in [other, *slow]:
        client.close()
