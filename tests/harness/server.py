# SPDX-License-Identifier: MIT
"""One rww-httpd, and a client that sees what really comes over the wire.

The server ends with assertions: descriptors and threads back at the baseline, exit 0 in time,
nothing unexpected logged.
"""
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile

from . import procs
from .mount import BUILD

BINARY = os.path.join(BUILD, "httpd", "rww-httpd")
LISTENING = re.compile(r"^rww-httpd: listening on (?P<scheme>https?)://127\.0\.0\.1:(?P<port>\d+)/$")
METRICS = re.compile(r"^rww-httpd: metrics on http://127\.0\.0\.1:(?P<port>\d+)/metrics$")
EXPECTED = re.compile(r"^rww-httpd: (serving |listening on |metrics on |stopping$|reloading$)")

SANITIZED = 66  # the exit status of TSan
WIPE = {"MALLOC_PERTURB_": "165"}  # glibc: what is freed is overwritten


class Cut(Exception):
    """The connection ended before the body did; .body is what came."""

    def __init__(self, how, body):
        super().__init__(f"{how} after {len(body)} bytes")
        self.how, self.body = how, body


class Response:
    def __init__(self, client, head):
        self.client = client
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, self.reason = (lines[0] + " ").split(" ", 2)
        self.status = int(status)
        self.fields = [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:] if line]
        self.headers = {k.lower(): v for k, v in self.fields}
        self.left = None  # bytes of the body, or of this chunk; None: until the connection ends
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        self.ended = False
        if self.chunked:
            self.left = 0
        elif "content-length" in self.headers:
            self.left = int(self.headers["content-length"])
            self.ended = self.left == 0

    def no_body(self):
        self.ended = True
        return self

    def some(self):
        """The next piece of the body as soon as there is one; b"" at its true end."""
        if self.ended:
            return b""
        if self.chunked and self.left == 0:
            line = self.client.line()
            self.left = int(line.split(b";")[0], 16)
            if self.left == 0:
                assert self.client.line() == b""
                self.ended = True
                return b""
        data = self.client.some(1 << 20 if self.left is None else min(self.left, 1 << 20))
        if not data:
            self.ended = True
            if self.left is None:
                return b""
            raise Cut("closed", b"")
        if self.left is not None:
            self.left -= len(data)
            if self.left == 0:
                if self.chunked:
                    assert self.client.exactly(2) == b"\r\n"
                else:
                    self.ended = True
        return data

    def at_least(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.some()
            assert more, f"ended after {len(data)} of {count} bytes"
            data += more
        return bytes(data)

    def exactly(self, count):
        data = self.at_least(count)
        assert len(data) == count, f"got {len(data)} bytes instead of {count}"
        return data

    def rest(self):
        data = bytearray()
        try:
            while more := self.some():
                data += more
        except Cut as e:
            raise Cut(e.how, bytes(data)) from None
        except ConnectionResetError:
            raise Cut("reset", bytes(data)) from None
        return bytes(data)

    def cut(self):
        """The body up to where it was cut: (how, bytes)."""
        try:
            data = self.rest()
        except Cut as e:
            return e.how, e.body
        raise AssertionError(f"ended cleanly after {len(data)} bytes")


class Client:
    """A connection; tls may be the newest version that it is to speak."""

    def __init__(self, port, tls=False, timeout=10, address="127.0.0.1", source=None):
        self.socket = socket.create_connection((address, port), procs.seconds(timeout),
                                               source_address=source and (source, 0))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if isinstance(tls, ssl.TLSVersion):
                context.maximum_version = tls
            self.socket = context.wrap_socket(self.socket, suppress_ragged_eofs=False)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)
        return self

    def some(self, limit=1 << 20):
        if not self.buffer:
            return self.socket.recv(limit)
        data, self.buffer = self.buffer[:limit], self.buffer[limit:]
        return data

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise Cut("closed", b"")
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return Response(self, head)

    def begin(self, target, method="GET", version="1.1", body=b"", **headers):
        """Sends a request; header names are written with underscores."""
        fields = {"Host": "test", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body and "Content-Length" not in fields and "Transfer-Encoding" not in fields:
            fields["Content-Length"] = len(body)
        head = f"{method} {target} HTTP/{version}\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in fields.items() if v is not None)
        return self.send(head.encode("utf-8") + b"\r\n" + body)

    def request(self, target, method="GET", **kwargs):
        response = self.begin(target, method, **kwargs).response()
        if method == "HEAD" or response.status in (204, 304):
            response.no_body()
        return response

    def is_quiet(self):
        """Nothing has come, and the connection is open."""
        self.socket.setblocking(False)
        try:
            return not self.buffer and self.socket.recv(1, socket.MSG_PEEK) is None
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        finally:
            self.socket.settimeout(procs.seconds(10))

    def is_closed(self):
        """The server closed the connection, over TLS with a goodbye or without; waits for it."""
        try:
            return self.socket.recv(1) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return True

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self):
        self.socket.close()


class Server:
    def __init__(self, root, *options, identity=None, environment=None, listen=True, wrapper=(),
                 **popen):
        self.root, self.options = root, list(options)
        self.run = tempfile.mkdtemp(prefix="rww-httpd-")
        os.chmod(self.run, 0o777)
        self.log_path = os.path.join(self.run, "stderr")
        self.access_path = os.path.join(self.run, "access")
        self.argv = [*wrapper, BINARY, "--threads=2", "--metrics=127.0.0.1:0",
                     f"--access-log={self.access_path}", "--log-format=json"]
        if listen:
            self.argv.append("--listen=127.0.0.1:0")
        self.argv += [*self.options, root]
        self.identity, self.environment, self.popen = identity or {}, environment or {}, popen
        self.allowed, self.clients = [], []
        self.process = None
        self.stopped, self.ended = True, False
        self.port = self.metrics_port = self.tls = None
        procs.witnesses.append(self.testimony)

    def start(self):
        env = {**os.environ, **self.environment}
        for tool in ("ASAN", "TSAN", "UBSAN"):
            env[f"{tool}_OPTIONS"] = ":".join(filter(None, [
                env.get(f"{tool}_OPTIONS"), f"log_path={self.run}/sanitizer", "print_stacktrace=1"]))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/",
                start_new_session=True, preexec_fn=procs.die_with_parent,
                **{**self.identity, **self.popen})
        self.stopped = False
        procs.wait_until(self._is_ready, "rww-httpd to listen", 10)
        self.pid = self.process.pid
        self.baseline = procs.descriptors(self.pid)
        self.threads = procs.threads(self.pid)
        return self

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"rww-httpd ended with {self.process.returncode}\n{self.log()}")
        for line in self.log().splitlines():
            if (match := LISTENING.match(line)):
                self.port, self.tls = int(match["port"]), match["scheme"] == "https"
            elif (match := METRICS.match(line)):
                self.metrics_port = int(match["port"])
        return self.metrics_port

    # -- its clients

    def connect(self, **kwargs):
        kwargs.setdefault("tls", self.tls)
        client = Client(self.port, **kwargs)
        self.clients.append(client)
        return client

    def request(self, target, method="GET", **kwargs):
        """A response on a connection of its own."""
        return self.connect().request(target, method, **kwargs)

    def get(self, target, status=200, **kwargs):
        """The whole body."""
        response = self.request(target, **kwargs)
        body = response.rest()
        assert response.status == status, f"{response.status} instead of {status}: {body[:200]}"
        return body

    def url(self, path="/"):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def metric(self, name):
        with contextlib.closing(Client(self.metrics_port)) as client:
            text = client.request("/metrics").rest().decode()
        return int(re.search(rf"^rww_httpd_{re.escape(name)} (\d+)$", text, re.M)[1])

    def wait_metric(self, name, value, timeout=10):
        procs.wait_until(lambda: self.metric(name) == value, f"{name} to be {value}", timeout)

    def wait_held(self, count):
        """So many requests are suspended."""
        self.wait_metric("held_requests", count)

    # -- what it says

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def logged(self, count):
        """The access log once it has so many lines."""
        procs.wait_until(lambda: self.access().count("\n") >= count, f"{count} log lines")
        return [json.loads(line) for line in self.access().splitlines()]

    def access(self):
        with open(self.access_path, errors="replace") as f:
            return f.read()

    def allow_log(self, pattern):
        self.allowed.append(re.compile(pattern))

    def unexpected_log(self):
        bad = [line for line in self.log().splitlines()
               if not EXPECTED.match(line) and not any(p.search(line) for p in self.allowed)]
        return bad + list(filter(None, [self.reports()]))

    def reports(self):
        """Of sanitizers."""
        text = ""
        for name in os.listdir(self.run):
            if name.startswith("sanitizer"):
                with open(os.path.join(self.run, name), errors="replace") as f:
                    text += f"{name}:\n{f.read()}"
        return text

    def testimony(self):
        if self.stopped:
            return ""
        return (f"--- rww-httpd {self.process.pid} {' '.join(self.argv)}\n{self.log()}"
                f"{self.reports()}{procs.dump(self.process.pid)}\n---")

    # -- the end

    def leaked(self):
        return {fd: target for fd, target in procs.descriptors(self.pid).items()
                if fd not in self.baseline}

    def wait(self, timeout=10):
        status = procs.wait_exit(self.process.pid, timeout, "rww-httpd")
        self.process.returncode = status
        self.stopped = True
        assert status != SANITIZED, self.reports()
        return status

    def stop(self):
        if self.ended:
            return
        try:
            for client in self.clients:
                client.close()
            if not self.stopped:
                procs.wait_until(lambda: not self.leaked(),
                                 f"descriptors to be closed: {self.leaked()}", 5)
                assert procs.threads(self.pid) == self.threads
                procs.kill(self.process.pid, 15)
                status = self.wait()
                assert status == 0, f"exit status {status}\n{self.log()}{self.reports()}"
            bad = self.unexpected_log()
            assert not bad, "rww-httpd logged:\n" + "\n".join(bad)
        finally:
            self.destroy()

    def destroy(self):
        for client in self.clients:
            client.close()
        if self.process and self.process.returncode is None:
            procs.kill(self.process.pid)
            self.wait()
        self.stopped = self.ended = True
        if self.testimony in procs.witnesses:
            procs.witnesses.remove(self.testimony)
        subprocess.run(["rm", "-rf", self.run], check=True)


def run(*arguments):
    """The program, ended: (status, stdout, stderr)."""
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def certificate(folder):
    """Options for TLS, with a certificate of 127.0.0.1 made in folder."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{folder}/key", "-out",
                    f"{folder}/cert", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    os.chmod(f"{folder}/key", 0o644)
    return f"--cert={folder}/cert", f"--key={folder}/key"


@contextlib.contextmanager
def factory(request):
    """make(root, *options, **kwargs) starts servers that are stopped, and judged, at the end."""
    made = []

    def make(root, *options, **kwargs):
        server = Server(str(root), *options, **kwargs)
        made.append(server)
        return server.start()

    yield make
    problems = []
    for server in reversed(made):
        if getattr(request.node, "call_failed", False):
            server.destroy()
            continue
        try:
            server.stop()
        except BaseException as e:
            problems.append(e)
    if problems:
        raise problems[0]
