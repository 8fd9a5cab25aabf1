# SPDX-License-Identifier: MIT
"""Who may what of rww-httpd: passwords, tokens, and how long they take."""
import base64
import signal
import subprocess

import pytest

from harness import procs, server
from harness.data import pattern

pytestmark = [pytest.mark.sanitize]


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


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
    procs.wait_until(lambda: web.metric('responses_total{class="4xx"}') +
                     web.metric('responses_total{class="5xx"}') +
                     web.metric("hashing_requests") == len(guesses), "all guesses to be there")
    client = web.connect(source="127.0.0.2").begin("/a.txt", Authorization=basic("ann", "ann"))
    client.socket.settimeout(procs.seconds(60))  # for one hash, or two, on a busy machine
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
    status, _, error = server.run("--upload", "--listen=0.0.0.0:0", str(site))
    assert status == 1 and "--htpasswd" in error


def test_broken_credentials_are_refused_at_start(site, folder):
    (folder / "users").write_text("ann:plaintext\n")
    status, _, error = server.run(f"--htpasswd={folder}/users", str(site))
    assert status == 1 and f"{folder}/users:1" in error and "htpasswd -B" in error


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


def test_a_realm_is_told_whole_or_refused(serve, site, users):
    web = serve(site, f"--htpasswd={users}", "--realm=" + "r" * 480)
    told = web.request("/a.txt").headers["www-authenticate"]
    assert told == f'Basic realm="{"r" * 480}", charset="UTF-8"'


@pytest.mark.parametrize("option, value", [("realm", "r" * 481), ("cors", "https://" + "x" * 20000)])
def test_what_has_no_room_in_a_header_is_refused(option, value):
    assert server.run(f"--{option}={value}", "/nonexistent") == (
        2, "", f"rww-httpd: option '--{option}={value[:64]}...': "
               f"expected at most 480 bytes, got {len(value)}\n")
