# SPDX-License-Identifier: MIT
"""rww-httpd as a service: TLS, how many, how long, how it starts and stops."""
import concurrent.futures
import contextlib
import errno
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest

from harness import procs, refuse, server
from harness.data import pattern
from harness.mount import REPO

pytestmark = [pytest.mark.sanitize]

ROOT = os.geteuid() == 0
NOBODY = 65534


# -- TLS

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
        status, _, error = server.run("--listen=127.0.0.1:0", cert, key, str(site))
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
    """Each counts for itself, IPv6 as well."""
    web = serve(site, "--max-per-ip=3", "--listen=:0")
    everywhere = int(re.search(r"listening on http://(?!127).*:(\d+)/$", web.log(), re.M)[1])
    for port, address in ((everywhere, "::1"), (web.port, "127.0.0.1"))[not has_ipv6():]:
        clients = [server.Client(port, address=address) for _ in range(3)]
        web.clients += clients
        assert [c.request("/a.txt").status for c in clients] == [200] * 3
        with contextlib.closing(server.Client(port, address=address)) as one_too_many:
            assert one_too_many.is_closed()
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
    status, _, error = server.run(*arguments)
    assert status == 1 and expected in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("option", ["mime-types", "htpasswd", "tokens", "cert", "key", "access-log"])
def test_a_named_pipe_is_not_waited_for(site, folder, pem, option):
    os.mkfifo(folder / "pipe")
    tls = pem if option in ("cert", "key") else ()
    status, _, error = server.run("--listen=127.0.0.1:0", *tls, f"--{option}={folder}/pipe", str(site))
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


def test_a_directory_that_is_gone_on_sighup_is_told(serve, site, folder):
    site = site.rename(folder / "site")
    web = serve(site)
    web.allow_log(rf"^rww-httpd: cannot serve {site} afresh: No such file or directory, ignoring$")
    site.rename(folder / "other")
    web.process.send_signal(signal.SIGHUP)
    procs.wait_until(lambda: "afresh" in web.log(), "a line")
    assert web.get("/a.txt") == b"hello world\n"


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


def test_usage_errors():
    for arguments in ([], ["--nonsense", "/"], ["a", "b"], ["--threads=x", "/"], ["--cors=", "/"]):
        status, out, error = server.run(*arguments)
        assert status == 2 and out == "" and len(error.splitlines()) == 1


@pytest.mark.parametrize("options, message", [
    (["--public-reads"], "'--public-reads': needs --htpasswd or --tokens too"),
    (["--upload", "--cors=*"], "'--cors=*': needs --htpasswd or --tokens too beside --upload, "
                               "or any web page could make changes"),
    (["--index=."], "'--index=.': expected the name of a file"),
    (["--index=.."], "'--index=..': expected the name of a file"),
    (["--index=a/b"], "'--index=a/b': expected the name of a file"),
    (["--realm="], "'--realm=': expected text without quotes or line breaks"),
    (["-v", "-q"], "'--quiet': expected without --verbose"),
    (["--max-per-ip=4294967297"], "'--max-per-ip=4294967297': expected 0 to 1000000"),
])
def test_what_cannot_be_meant_is_refused(options, message):
    assert server.run(*options, "/nonexistent") == (2, "", f"rww-httpd: option {message}\n")


@pytest.mark.parametrize("value, meant", [
    ("*", True), ("null", True), ("https://example.org", True), ("http://[::1]:8080", True),
    ("app://x", True), ("https://example.org/", False), ("example.org", False), ("http://", False),
    ("https://Example.org", False), ("http://a.org http://b.org", False), ("http://a,*", False),
    ("http://*.example.org", False), ("http://a b", False), ("", False), ("://a", False),
])
def test_an_origin_is_one_that_a_browser_sends(value, meant):
    status, _, error = server.run(f"--cors={value}", "/nonexistent")
    assert status == (1 if meant else 2)
    assert meant or f"option '--cors={value}': expected *, or an origin " in error


def test_a_port_in_use_is_refused(serve, site):
    web = serve(site)
    status, _, error = server.run(f"--listen=127.0.0.1:{web.port}", str(site))
    assert status == 1 and "Address already in use" in error


def has_ipv6():
    with socket.socket(socket.AF_INET6) as s, contextlib.suppress(OSError):
        s.bind(("::1", 0))
        return True
    return False


def test_an_empty_address_is_all(serve, site):
    web = serve(site, "--listen=:0")
    port = int(re.search(r"listening on http://(?!127).*:(\d+)/$", web.log(), re.M)[1])
    for count, address in enumerate(["127.0.0.1", "::1"][:1 + has_ipv6()], 1):
        with contextlib.closing(server.Client(port, address=address)) as client:
            assert client.request("/a.txt").rest() == b"hello world\n", address
        assert web.logged(count)[-1]["address"] == address


@pytest.mark.skipif(not ROOT, reason="root: needs an /etc/hosts of its own")
def test_a_name_is_each_of_its_addresses(serve, site, folder):
    """But those of a family, or a network, that this machine has no part in."""
    hosts = pathlib.Path(folder, "hosts")
    hosts.write_text("::1 place\n2001:db8::1 place\n127.0.0.1 place\n127.0.0.2 place\n192.0.2.1 far\n")
    own_hosts = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts; exec "$@"', hosts]
    web = serve(site, "--listen=place:0", wrapper=own_hosts)
    ports = {x or y: int(port) for x, y, port in re.findall(
        r"listening on http://(?:\[(.*)\]|([\d.]+)):(\d+)/$", web.log(), re.M)}
    assert ports.keys() - {"::1"} == {"127.0.0.1", "127.0.0.2"} and ("::1" in ports) == has_ipv6()
    for address, port in ports.items():
        with contextlib.closing(server.Client(port, address=address)) as client:
            assert client.request("/a.txt").rest() == b"hello world\n", address
    done = subprocess.run([*own_hosts, server.BINARY, "--listen=far:0", site],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "cannot listen on 'far:0': Cannot assign requested address" in done.stderr


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
    status, text, _ = server.run("--help")
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
    assert re.fullmatch(r"rww-httpd \d+\.\d+\.\d+\n", server.run("--version")[1])
