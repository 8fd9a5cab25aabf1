# SPDX-License-Identifier: MIT
"""rww-httpd as a service: who may, how many, how long, what is logged, how it starts and stops."""
import base64
import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import pytest

from harness import procs, refuse, server
from harness.data import pattern
from harness.mount import REPO

pytestmark = [pytest.mark.sanitize]

ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def site(base):
    path = pathlib.Path(tempfile.mkdtemp(dir=base))
    path.chmod(0o755)
    (path / "a.txt").write_bytes(b"hello world\n")
    (path / "big.bin").write_bytes(pattern(8 << 20))
    return path


@pytest.fixture
def folder(base):
    return pathlib.Path(tempfile.mkdtemp(dir=base))


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def run(*arguments):
    """The program, ended: (status, stdout, stderr)."""
    done = subprocess.run([server.BINARY, *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


# -- credentials

@pytest.fixture
def users(folder):
    path = folder / "users"
    lines = [
        "# apr1, SHA-512, bcrypt and yescrypt of the password that is the name",
        "ann:" + subprocess.run(["openssl", "passwd", "-apr1", "ann"], capture_output=True, text=True,
                                check=True).stdout.strip(),
        "bob:" + subprocess.run(["openssl", "passwd", "-6", "bob"], capture_output=True, text=True,
                                check=True).stdout.strip(),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_basic_authentication(serve, site, users):
    web = serve(site, f"--htpasswd={users}", "--realm=the realm")
    response = web.request("/a.txt")
    assert response.status == 401
    assert response.headers["www-authenticate"] == 'Basic realm="the realm", charset="UTF-8"'
    for user in ("ann", "bob", "bob"):
        assert web.get("/a.txt", Authorization=basic(user, user)) == b"hello world\n"
    for wrong in (basic("ann", "bob"), basic("carl", "carl"), basic("", ""), "Basic", "Basic !!!",
                  "Basic " + base64.b64encode(b"ann").decode(), "Bearer ann", "Digest x",
                  "Basic " + base64.b64encode(b"ann:ann\0").decode()):
        assert web.request("/a.txt", Authorization=wrong).status == 401, wrong
    assert web.request("/nope").status == 401
    assert web.metric("auth_failures_total") == 9
    assert '"user":"ann"' in web.access() and "YW5u" not in web.access()


def test_the_first_of_two_lines_for_a_user_counts(serve, site, users):
    old = subprocess.run(["openssl", "passwd", "-6", "old"], capture_output=True, text=True, check=True)
    with open(users, "a") as f:
        f.write("ann:" + old.stdout)
    web = serve(site, f"--htpasswd={users}")
    assert web.request("/a.txt", Authorization=basic("ann", "old")).status == 401
    assert web.get("/a.txt", Authorization=basic("ann", "ann")) == b"hello world\n"


def test_a_wrong_password_is_hashed_once(serve, site, folder):
    """A client that comes again and again with it leaves its worker to the others."""
    (folder / "users").write_text("ann:$2b$11$abcdefghijklmnopqrstuuAKVQW6T0I4RbTTBf9FZ/TLOHoiTGs2S\n")  # bcrypt of ann
    web = serve(site, f"--htpasswd={folder}/users")

    def cost(status, password):
        before = procs.cpu_seconds(web.pid)
        assert web.request("/a.txt", Authorization=basic("ann", password)).status == status
        return procs.cpu_seconds(web.pid) - before
    first = cost(401, "wrong")
    assert first > 0.02
    assert sum(cost(401, "wrong") for _ in range(10)) < 2 * first
    assert cost(401, "wronger") > 0.02 and cost(200, "ann") > 0.02
    assert web.metric("auth_failures_total") == 12


# -- passwords whose hash takes long

HASHES = {10: "$2b$10$abcdefghijklmnopqrstuuLh5Mn85EVuGUY84/HFshimVZYAmXGpW",  # bcrypt of ann: 50 ms,
          14: "$2b$14$abcdefghijklmnopqrstuuLOZqivdy2RRE.Fg1au2tvw1r3pC2DSy"}  # and almost a second


@pytest.fixture
def hashing(serve, site, folder):
    """hashing(cost, options...) starts a server with one worker, whose user ann has such a hash."""
    def start(cost, *options, **kwargs):
        (folder / "users").write_text(f"ann:{HASHES[cost]}\n")
        return serve(site, f"--htpasswd={folder}/users", "--threads=1", *options, **kwargs)
    return start


def ask(web, password, method="GET", address=None, **headers):
    """A connection, from that address, whose password is being hashed, or waits for it."""
    before = web.metric("hashing_requests")
    client = web.connect(source=address)
    client.begin("/a.txt", method, Authorization=basic("ann", password), **headers)
    procs.wait_until(lambda: web.metric("hashing_requests") > before, "a password to be hashed")
    return client


def test_others_are_served_while_a_password_is_hashed(hashing):
    web = hashing(14, "--public-reads", "--upload")
    before = procs.cpu_seconds(web.pid)
    client = web.connect().begin("/a.txt", "DELETE", Authorization=basic("ann", "wrong"))
    procs.wait_until(lambda: procs.cpu_seconds(web.pid) > before + 0.05, "it to be hashed")
    assert web.get("/a.txt") == b"hello world\n"
    assert client.is_quiet()
    assert client.response().status == 401


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("expect", [None, "100-continue"], ids=["body", "expect"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_waits_for_its_password(hashing, site, folder, tls, expect, chunked):
    web = hashing(10, "--upload", *(server.certificate(folder) if tls else ()))
    data = pattern(100000)
    body = b"186a0\r\n" + data + b"\r\n0\r\n\r\n" if chunked else data
    length = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": len(data)}
    for password, status in (("wrong", 401), ("ann", 201), ("ann", 204)):
        client = web.connect()
        client.begin("/new", "PUT", body=b"" if expect else body, Expect=expect,
                     Authorization=basic("ann", password), **length)
        if expect and status < 400:
            assert client.line() == b"HTTP/1.1 100 Continue" and client.line() == b""
            client.send(body)
        assert client.response().status == status
    assert (site / "new").read_bytes() == data


def test_requests_with_one_password_are_hashed_together(hashing):
    web = hashing(14)
    clients = [web.connect().begin("/a.txt", Authorization=basic("ann", "ann")) for _ in range(6)]
    before = procs.cpu_seconds(web.pid)
    assert [c.response().rest() for c in clients] == 6 * [b"hello world\n"]
    cost = procs.cpu_seconds(web.pid) - before
    assert web.request("/a.txt", Authorization=basic("ann", "wrong")).status == 401
    assert cost < 3 * (procs.cpu_seconds(web.pid) - before - cost)


def test_a_client_that_leaves_is_not_hashed_for(hashing):
    web = hashing(14)
    first = ask(web, "wrong")
    others = [web.connect().begin("/a.txt", Authorization=basic("ann", f"{i}")) for i in range(8)]
    web.wait_metric("hashing_requests", 9)
    for client in others:
        client.close()
    assert {entry["outcome"] for entry in web.logged(8)} == {"client gone"}
    assert first.response().status == 401
    assert web.get("/a.txt", Authorization=basic("ann", "ann")) == b"hello world\n"
    assert web.metric("auth_failures_total") == 1


def test_one_address_does_not_keep_others_from_being_hashed(hashing):
    """When more wait than may, those are refused who are the last of the one who has most."""
    web = hashing(14)
    guesses = [web.connect().begin("/a.txt", Authorization=basic("ann", f"{i}")) for i in range(80)]
    web.wait_metric("hashing_requests", 65)
    client = web.connect(source="127.0.0.2").begin("/a.txt", Authorization=basic("ann", "ann"))
    assert client.response().rest() == b"hello world\n"
    answers = [c.response() for c in guesses if not c.is_quiet()]
    refused = [r.headers["retry-after"] for r in answers if r.status == 503]
    assert set(refused) == {"1"} and len(refused) >= 10
    assert len(answers) - len(refused) <= 5


def test_a_password_that_is_being_hashed_when_the_file_changes(hashing, folder):
    web = hashing(14)
    client = ask(web, "ann")
    fast = subprocess.run(["openssl", "passwd", "-apr1", "new"], capture_output=True, text=True, check=True)
    (folder / "users").write_text("ann:" + fast.stdout)
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: web.request("/a.txt", Authorization=basic("ann", "new")).status == 200,
                     "the new password")
    assert client.response().status == 401


@pytest.mark.parametrize("drain, outcome", [(10, "ok"), (0, "stopped")])
def test_a_password_that_is_being_hashed_when_the_server_stops(hashing, drain, outcome):
    web = hashing(14, f"--drain-timeout={drain}")
    web.allow_log("cutting 2 connections")
    clients = [ask(web, "ann"), ask(web, "wrong")]
    web.process.send_signal(signal.SIGTERM)
    if drain:
        assert [c.response().status for c in clients] == [200, 401]
    assert web.wait() == 0
    assert all(c.is_closed() for c in clients)
    assert [entry["outcome"] for entry in web.logged(2)] == 2 * [outcome]


def test_bearer_tokens(serve, site, folder):
    (folder / "tokens").write_text("# for the robot\nsesame\n \topen-it  the spare\n #no\n")
    web = serve(site, f"--tokens={folder}/tokens")
    for token in ("sesame", "open-it"):
        assert web.get("/a.txt", Authorization=f"Bearer {token}") == b"hello world\n"
    for token in ("sesam", "sesame2", "", "#", "#no", basic("sesame", "sesame")):
        assert web.request("/a.txt", Authorization=f"Bearer {token}").status == 401


def test_public_reads(serve, site, users):
    web = serve(site, f"--htpasswd={users}", "--public-reads", "--upload")
    assert web.get("/a.txt") == b"hello world\n"
    assert web.request("/new", "PUT", body=b"x").status == 401
    assert web.request("/a.txt", "DELETE").status == 401
    assert web.request("/new", "PUT", body=b"x", Authorization=basic("ann", "ann")).status == 201
    assert not (site / "x").exists() and (site / "a.txt").exists()


def test_upload_without_credentials_is_for_loopback(site, users):
    status, _, error = run("--upload", "--listen=0.0.0.0:0", str(site))
    assert status == 1 and "--htpasswd" in error


def test_broken_credentials_are_refused_at_start(site, folder):
    (folder / "users").write_text("ann:plaintext\n")
    status, _, error = run(f"--htpasswd={folder}/users", str(site))
    assert status == 1 and f"{folder}/users:1" in error and "htpasswd -B" in error


# -- TLS

@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return server.certificate(tmp_path_factory.mktemp("pem"))


def test_tls(serve, site, pem):
    web = serve(site, *pem)
    assert web.get("/big.bin") == pattern(8 << 20)
    cert = pem[0].split("=")[1]
    done = subprocess.run(["curl", "-sS", "--cacert", cert, web.url("/a.txt")], capture_output=True,
                          timeout=30)
    assert done.stdout == b"hello world\n", done.stderr
    plain = web.connect(tls=False).send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not plain.some().startswith(b"HTTP/1.1 200")


def test_a_bad_certificate_is_refused_at_start(site, folder, pem):
    (folder / "bad").write_text("nonsense")
    os.mkdir(folder / "other")
    for cert, key, expected in (
            (f"--cert={folder}/bad", pem[1], f"cannot use the certificate {folder}/bad"),
            (server.certificate(folder / "other")[0], pem[1], "cannot use the certificate"),
            (f"--cert={folder}/none", pem[1], f"cannot read {folder}/none: No such file")):
        status, _, error = run("--listen=127.0.0.1:0", cert, key, str(site))
        assert status == 1 and expected in error and len(error.splitlines()) == 1


def certificate_of(web):
    return ssl.get_server_certificate(("127.0.0.1", web.port))


def test_a_renewed_certificate_is_taken_on_sighup(serve, site, folder):
    pem = server.certificate(folder)
    web = serve(site, *pem)
    web.allow_log("cannot use the certificate|the certificate stays")
    client = web.connect()
    old = certificate_of(web)
    assert old == (folder / "cert").read_text()
    server.certificate(folder)
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: certificate_of(web) != old, "the new certificate")
    new = certificate_of(web)
    assert new == (folder / "cert").read_text()
    (folder / "key").write_text("nonsense")
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: "the certificate stays" in web.log(), "the refusal")
    assert certificate_of(web) == new
    assert client.request("/a.txt").rest() == b"hello world\n"


# -- CORS

def test_cors(serve, site):
    web = serve(site, "--cors=*")
    assert web.request("/a.txt").headers["access-control-allow-origin"] == "*"
    preflight = web.request("/a.txt", "OPTIONS", Origin="http://x",
                            Access_Control_Request_Method="GET")
    assert preflight.status == 204
    assert "Range" in preflight.headers["access-control-allow-headers"]
    assert "GET" in preflight.headers["access-control-allow-methods"]
    one = serve(site, "--cors=https://x.example").request("/a.txt")
    assert one.headers["access-control-allow-origin"] == "https://x.example"
    assert one.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in serve(site).request("/a.txt").headers


# -- limits and timeouts

def test_connections_per_address(serve, site):
    web = serve(site, "--max-per-ip=3")
    clients = [web.connect() for _ in range(3)]
    assert [c.request("/a.txt").status for c in clients] == [200] * 3
    assert web.connect().is_closed()
    clients[0].close()
    procs.wait_until(lambda: answers(web), "a place to become free")


def answers(web):
    try:
        return web.request("/a.txt").status == 200
    except (ConnectionError, server.Cut):
        return False


def test_header_timeout_cannot_be_stretched_by_trickling(serve, site):
    web = serve(site, "--header-timeout=1", "--idle-timeout=60")
    client = web.connect()
    start = time.monotonic()
    try:
        for byte in b"GET /a.txt HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1000:
            client.send(bytes([byte]))
            client.socket.settimeout(0.05)
            try:
                if client.socket.recv(1) == b"":
                    break
            except TimeoutError:
                pass
    except ConnectionError:
        pass
    assert 0.9 < time.monotonic() - start < procs.seconds(5)


def test_no_header_timeout(serve, site):
    """The other limit still holds, for those who send nothing."""
    web = serve(site, "--header-timeout=0", "--idle-timeout=1")
    web.get("/a.txt")
    slow, silent = web.connect(), web.connect()
    slow.send(b"GET /a.txt HTTP/1.0\r\nX: ")
    silent.socket.settimeout(0.05)
    while True:
        slow.send(b"y")
        try:
            assert silent.socket.recv(1) == b""
            break
        except TimeoutError:
            pass
    slow.send(b"\r\n\r\n")
    assert slow.some().startswith(b"HTTP/1.1 200")


def test_idle_timeout(serve, site):
    web = serve(site, "--idle-timeout=1", "--header-timeout=1")
    client = web.connect()
    assert client.request("/a.txt", "HEAD").status == 200
    assert client.is_closed()


def test_a_client_that_does_not_read_is_let_go(serve, site):
    (site / "huge").write_bytes(b"x" * (32 << 20))
    web = serve(site, "--idle-timeout=1")
    web.connect().begin("/huge")
    web.wait_metric("connections", 1)
    web.wait_metric("connections", 0)


def test_a_thousand_stalled_clients_do_not_disturb(serve, site):
    web = serve(site)
    stalled = [web.connect().send(b"GET /a.txt HTTP/1.1\r\nHost:") for _ in range(1000)]
    web.wait_metric("connections", 1000)
    assert web.get("/a.txt") == b"hello world\n"
    for client in stalled:
        client.close()
    web.wait_metric("connections", 1)  # the one that was answered is kept


def test_many_parallel_downloads(serve, site):
    web = serve(site)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for body in pool.map(lambda _: web.get("/big.bin"), range(64 // procs.TIME_SCALE[0])):
            assert body == pattern(8 << 20)


# -- logs, metrics, health

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


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("raw, status, outcome", [
    (b"GET\r\n\r\n", 400, "unread"), (b"GET /a b HTTP/1.1\r\n\r\n", 400, "unread"),
    (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "ok"), (b"GET /" + b"a" * 30000, 414, "ok"),
    (b"GET", 400, "unread"), (b"GET", 408, "timeout"),
], ids=["one-word", "four-words", "version", "long", "left", "late"])
def test_what_becomes_no_request_is_logged(serve, site, raw, status, outcome, before):
    """libmicrohttpd tells of none of these. The last but one is left by its client."""
    web = serve(site, "--header-timeout=1", "--idle-timeout=1")
    client = web.connect()
    for _ in range(before):
        assert client.request("/a.txt").rest() == b"hello world\n"
    if before:
        client.request("/a.txt", "POST").rest()
        before += 1
    client.send(raw)
    if outcome == "ok":
        assert b" %d " % status in client.some()
    elif raw != b"GET" or outcome == "timeout":
        assert client.is_closed()
    client.close()
    line = web.logged(before + 1)[before]
    assert [line[x] for x in ("status", "outcome", "method", "target", "address")] == \
        [status, outcome, None, None, "127.0.0.1"]
    assert web.metric('responses_total{class="%dxx"}' % (status // 100)) == 1 + (before and status < 500)


@pytest.mark.parametrize("tls", [False, True])
def test_connections_that_end_in_order_leave_no_line(serve, site, pem, tls):
    """A handshake is no request, nor is a goodbye."""
    web = serve(site, "--idle-timeout=1", *(pem if tls else ()))
    for count, ends in [(0, "goodbye"), (0, "timeout"), (1, "goodbye"), (1, "timeout")]:
        client = web.connect()
        for _ in range(count):
            assert client.request("/a.txt").rest() == b"hello world\n"
        if ends == "timeout":
            assert client.is_closed()
        elif tls:
            client.socket.unwrap()
        client.close()
    web.wait_metric("connections", 0)
    assert len(web.logged(2)) == 2


def test_what_becomes_no_request_in_the_combined_format(serve, site):
    web = serve(site, "--log-format=combined")
    assert web.connect().send(b"\x16\x03\x01\r\n\r\n").is_closed()
    assert procs.wait_until(web.access, "the log").endswith('] "-" 400 0 "-" "-"\n')


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
        while "No space" not in web.log():
            web.get("/a.txt")
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


def test_credentials_are_read_again_on_sighup(serve, site, folder):
    tokens = folder / "tokens"
    tokens.write_text("old\n")
    web = serve(site, f"--tokens={tokens}")
    web.allow_log("token file|credentials stay")
    tokens.write_text("new\n")
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: web.request("/a.txt", Authorization="Bearer new").status == 200,
                     "the new token")
    assert web.request("/a.txt", Authorization="Bearer old").status == 401
    tokens.unlink()
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: "credentials stay" in web.log(), "the refusal")
    assert web.request("/a.txt", Authorization="Bearer new").status == 200


def test_metrics_and_health(serve, site):
    web = serve(site)
    web.get("/a.txt")
    web.request("/nope").rest()
    web.wait_metric('responses_total{class="2xx"}', 1)
    assert web.metric('responses_total{class="4xx"}') == 1
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


# -- starting and stopping

@pytest.mark.parametrize("arguments, expected", [
    (["/nonexistent"], "cannot serve /nonexistent: No such file"),
    (["--listen=nonsense", "/"], "expected ADDRESS:PORT"),
    (["--listen=256.0.0.1:80", "/"], "cannot listen on '256.0.0.1:80'"),
    (["--listen=127.0.0.1:65536", "/"], "expected ADDRESS:PORT"),
    (["--listen=127.0.0.1:no-such-port", "/"], "expected ADDRESS:PORT"),
    (["--htpasswd=/", "--listen=127.0.0.1:0", "/"], "cannot read the password file /: Is a directory"),
    (["--tokens=/", "--listen=127.0.0.1:0", "/"], "cannot read the token file /: Is a directory"),
    (["--user=nobody-of-that-name", "--listen=127.0.0.1:0", "/"], "there is no such user"),
    (["--access-log=/nonexistent/log", "--listen=127.0.0.1:0", "/"], "cannot open the access log"),
])
def test_what_cannot_work_is_refused_at_start(arguments, expected):
    status, _, error = run(*arguments)
    assert status == 1 and expected in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("option", ["mime-types", "htpasswd", "tokens", "cert", "key", "access-log"])
def test_a_named_pipe_is_not_waited_for(site, folder, pem, option):
    os.mkfifo(folder / "pipe")
    tls = pem if option in ("cert", "key") else ()
    status, _, error = run("--listen=127.0.0.1:0", *tls, f"--{option}={folder}/pipe", str(site))
    assert status == 1 and f"{folder}/pipe" in error and "pipe" in error.rpartition(": ")[2]
    assert len(error.splitlines()) == 1


def test_a_named_pipe_is_not_waited_for_on_sighup(serve, site, folder):
    (folder / "tokens").write_text("secret\n")
    web = serve(site, f"--tokens={folder}/tokens")
    (folder / "tokens").unlink()
    os.mkfifo(folder / "tokens")
    web.allow_log("it is a named pipe$|stay as they were$")
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: "stay as they were" in web.log(), "a line")
    assert web.get("/a.txt", Authorization="Bearer secret") == b"hello world\n"


def test_a_pipe_without_a_name_is_read(serve, site):
    """As bash has it for <(...)."""
    wrapper = ["bash", "-c", 'exec "$0" "${@:1:$#-1}" --tokens=<(echo secret) "${@: -1}"']
    web = serve(site, wrapper=wrapper)
    assert web.request("/a.txt").status == 401
    assert web.get("/a.txt", Authorization="Bearer secret") == b"hello world\n"


@pytest.mark.parametrize("table", ["/nonexistent", "/"])
def test_media_types_that_cannot_be_read_are_told(serve, site, table):
    web = serve(site, f"--mime-types={table}")
    message = f"cannot read the media types of {table}: "
    web.allow_log(message)
    assert web.get("/a.txt") and message in web.log()


def test_a_sandbox_without_openat2_is_refused(site):
    """As RestrictSUIDSGID=, which DynamicUser= implies, of systemd.exec(5)."""
    done = subprocess.run([sys.executable, refuse.__file__, "437", str(errno.ENOSYS), server.BINARY,
                           str(site)], capture_output=True, text=True, timeout=procs.seconds(10))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "openat2(2) is refused (Function not implemented)" in done.stderr


def test_a_realm_is_told_whole_or_refused(serve, site, users):
    web = serve(site, f"--htpasswd={users}", "--realm=" + "r" * 480)
    told = web.request("/a.txt").headers["www-authenticate"]
    assert told == f'Basic realm="{"r" * 480}", charset="UTF-8"'
    realm = "r" * 481
    status, _, error = run(f"--realm={realm}", str(site))
    assert status == 2
    assert error == f"rww-httpd: option '--realm={realm}': expected at most 480 bytes\n"


def test_usage_errors():
    for arguments in ([], ["--nonsense", "/"], ["a", "b"], ["--threads=x", "/"]):
        status, out, error = run(*arguments)
        assert status == 2 and out == "" and len(error.splitlines()) == 1


def test_a_port_in_use_is_refused(serve, site):
    web = serve(site)
    status, _, error = run(f"--listen=127.0.0.1:{web.port}", str(site))
    assert status == 1 and "Address already in use" in error


def test_readiness_is_notified(serve, site, folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"{folder}/notify")
        s.settimeout(procs.seconds(10))
        web = serve(site, environment={"NOTIFY_SOCKET": f"{folder}/notify"})
        assert s.recv(100) == b"READY=1"
        web.process.send_signal(signal.SIGTERM)
        assert web.wait() == 0
        assert s.recv(100) == b"STOPPING=1"


ACTIVATE = """
import fcntl, os, sys
passed = [int(fd) for fd in sys.argv[1].split(",")]
kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in passed]
for fd in passed:
    os.close(fd)
for i, fd in enumerate(kept):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_FDS=str(len(kept)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def activation(*inherited):
    """What starts a program with these sockets; they are passed to it."""
    return [sys.executable, "-c", ACTIVATE, ",".join(str(x.fileno()) for x in inherited)]


@pytest.mark.parametrize("kind", ["connection", "datagrams"])
def test_a_socket_that_takes_no_connections_is_refused(site, kind):
    with contextlib.ExitStack() as stack:
        if kind == "datagrams":
            inherited = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            inherited.bind(("127.0.0.1", 0))
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            inherited = stack.enter_context(socket.create_connection(listener.getsockname()))
        done = subprocess.run([*activation(inherited), server.BINARY, str(site)], capture_output=True,
                              text=True, pass_fds=[inherited.fileno()], timeout=procs.seconds(10))
        assert done.returncode == 1
        assert done.stderr.endswith("the inherited socket 3 cannot be used: it takes no connections\n")


def test_socket_activation(serve, site):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = activation(listener)
        web = serve(site, listen=False, wrapper=start, pass_fds=[listener.fileno()])
        assert web.port == listener.getsockname()[1]
        assert web.get("/a.txt") == b"hello world\n"


@pytest.mark.parametrize("count", [9, 64, 65])
def test_all_sockets_are_served_or_none(serve, site, count):
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        start, fds = activation(*listeners), [x.fileno() for x in listeners]
        if count > 64:
            done = subprocess.run([*start, server.BINARY, str(site)], capture_output=True, text=True,
                                  pass_fds=fds, timeout=procs.seconds(10))
            assert done.returncode == 1
            assert done.stderr == ("rww-httpd: the service manager passed 65 sockets: "
                                   "expected at most 64\n")
            return
        serve(site, listen=False, wrapper=start, pass_fds=fds)
        for listener in listeners:
            with contextlib.closing(server.Client(listener.getsockname()[1])) as client:
                assert client.request("/a.txt").rest() == b"hello world\n"


@pytest.mark.skipif(not ROOT, reason="root: needed to give it up")
def test_privileges_are_given_up(serve, site):
    (site / "private").write_bytes(b"secret")
    (site / "private").chmod(0o600)
    web = serve(site, "--user=nobody")
    with open(f"/proc/{web.pid}/status") as f:
        status = f.read()
    assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert web.request("/private").status == 403
    web.get("/a.txt")
    web.process.send_signal(signal.SIGHUP)
    web.allow_log("cannot open the access log")


def test_a_second_signal_hurries(serve, site):
    web = serve(site, "--drain-timeout=1000")
    web.allow_log(r"cutting \d connections")
    (site / "huge").write_bytes(b"x" * (32 << 20))
    client = web.connect().begin("/huge")
    client.response()
    web.process.send_signal(signal.SIGTERM)
    procs.wait_until(lambda: not answers(web), "the listener to close")
    assert procs.alive(web.pid)
    web.process.send_signal(signal.SIGTERM)
    assert web.wait() == 0


def test_nothing_is_accepted_while_draining(serve, site):
    web = serve(site, "--drain-timeout=0")
    web.process.send_signal(signal.SIGINT)
    assert web.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        web.connect()


# -- documentation

def test_help_and_man_page_list_the_same_options():
    status, text, _ = run("--help")
    assert status == 0
    with open(os.path.join(REPO, "man", "rww-httpd.8")) as f:
        page = f.read()
    shown = set(re.findall(r"--([a-z-]+)", text))
    items = "\n".join(re.findall(r"^\.It (Fl .*)", page, re.M))
    assert set(re.findall(r"Fl -([a-z-]+)", items)) == shown
    for name, default in re.findall(r"--([a-z-]+).*\(default: ([^)]+)\)", text):
        if name not in ("threads", "group"):
            section = re.split(rf"^\.It .*Fl -{name} ", page, maxsplit=1, flags=re.M)[1]
            assert default in re.split(r"^\.It ", section, maxsplit=1, flags=re.M)[0], name


def test_version():
    assert re.fullmatch(r"rww-httpd \d+\.\d+\.\d+\n", run("--version")[1])
