# SPDX-License-Identifier: MIT
"""The web servers that are measured: rww-httpd, and those it is compared with."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess

from .place import PROGRAMS, Failed, Unavailable, wait_until

NGINX = """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes {workers};
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
	types {{ }}
	default_type application/octet-stream;
	{temporary}
	server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Server:
    """A server in the foreground; ended by SIGTERM, which it passes on to its workers."""

    def __init__(self, place, name, argv, **kwargs):
        self.place, self.name = place, name
        self.log = os.path.join(place.folder("servers"), name + ".log")
        with open(self.log, "wb") as log:
            self.process = place.start(argv, stdin=subprocess.DEVNULL, stderr=log,
                                       **{"stdout": log, **kwargs})
        self.pid, self.port = self.process.pid, 0
        place.daemons.append(self)

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read().strip()

    def wait_for(self, condition):
        def look():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            return condition()
        wait_until(look, f"{self.name} to listen", 10)

    def pss(self):
        """Bytes of memory, shared pages by share."""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            return 1024 * next(int(line.split()[1]) for line in f if line.startswith("Pss:"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in self.place.daemons:
            self.place.daemons.remove(self)


def listens(port):
    with contextlib.closing(socket.socket()) as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def rww_httpd(place, root):
    binary = os.path.join(place.args.build, "httpd", "rww-httpd")
    if not os.path.exists(binary):
        raise Unavailable("this build has no rww-httpd: it needs libmicrohttpd")
    server = Server(place, "rww-httpd", [binary, "--listen=127.0.0.1:0",
                                         f"--threads={os.cpu_count()}", root])
    try:
        server.wait_for(lambda: re.search(r"listening on http://127.0.0.1:(\d+)/", server.said()))
        server.port = int(re.search(r"127\.0\.0\.1:(\d+)/", server.said()).group(1))
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def nginx(place, root):
    if not shutil.which("nginx"):
        raise Unavailable("needs nginx")
    folder = place.folder("servers", "nginx")
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w") as f:
        f.write(NGINX.format(folder=folder, root=root, port=port, workers=os.cpu_count(),
                             files=20000, connections=8192, temporary=temporary))
    server = Server(place, "nginx",
                    ["nginx", "-c", config, "-e", os.path.join(folder, "early.log")])
    try:
        server.wait_for(lambda: listens(port))
        server.port = port
        yield server
    finally:
        server.kill()


def build_go(place):
    """programs/fanserver.go, compiled with nothing but the standard library."""
    if not shutil.which("go"):
        raise Unavailable("needs Go (golang-go) for the server to compare with")
    path = os.path.join(place.root, "fanserver")
    cache = os.path.join(place.args.build, "go-cache")
    subprocess.run(["go", "build", "-o", path, os.path.join(PROGRAMS, "fanserver.go")], check=True,
                   env={**os.environ, "GO111MODULE": "off", "GOCACHE": cache, "GOFLAGS": ""})
    return path


@contextlib.contextmanager
def fanserver(place):
    """The Go server; it writes into the same filesystem as the store lies on."""
    server = Server(place, "fanserver", [build_go(place), place.folder("fanserver-files")],
                    stdout=subprocess.PIPE, text=True)
    try:
        server.port = int(server.process.stdout.readline() or 0)
        if not server.port:
            raise Failed(f"fanserver: {server.said()}")
        yield server
    finally:
        server.kill()
        server.process.stdout.close()
