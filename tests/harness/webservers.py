# SPDX-License-Identifier: MIT
"""Other people's web servers, run by contrib/servers/serve, and curl as their client."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from . import procs, server
from .mount import REPO

CUT = (18, 56)  # exit status of curl: the body is too short, the connection was reset
RECIPES = os.path.join(REPO, "contrib", "servers")
PROGRAMS = {"nginx": "nginx", "apache": "apache2", "lighttpd": "lighttpd", "caddy": "caddy",
            "python": "python3", "busybox": "busybox", "rww-httpd": server.BINARY}
CACHES = {"varnish": "varnishd", "trafficserver": "traffic_server", "nginx-cache": "nginx"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Fetch:
    """One curl. It writes what it gets at once."""

    def __init__(self, url, folder, *options):
        handle, self.path = tempfile.mkstemp(dir=folder)
        os.close(handle)
        self.process = subprocess.Popen(
            ["curl", "-sN", "-o", self.path, "-w", "%{http_code}", *options, url],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
            preexec_fn=procs.die_with_parent)

    def received(self):
        return os.path.getsize(self.path)

    def wait_received(self, size):
        procs.wait_until(lambda: self.received() >= size or self.process.poll() is not None,
                         f"curl to have {size} bytes")
        assert self.received() >= size, f"curl ended with {self.received()} bytes of {size}"

    def end(self):
        """(exit status of curl, HTTP status, body)"""
        status, _ = self.process.communicate(timeout=procs.seconds(10))
        with open(self.path, "rb") as f:
            return self.process.returncode, int(status), f.read()

    def destroy(self):
        self.process.kill()
        self.process.communicate()


class WebServer:
    """edits: what is different from the recipe, {text: replacement}. options: of rww-httpd."""

    def __init__(self, name, root, edits=(), options=()):
        self.name = name
        self.run = tempfile.mkdtemp(prefix="webserver-")
        os.chmod(self.run, 0o755)  # some servers become another user
        self.port = free_port()
        recipes = os.path.join(self.run, "servers")
        shutil.copytree(RECIPES, recipes)
        self._edit(recipes, dict(edits))
        self.argv = [os.path.join(recipes, "serve"), name, root, str(self.port)]
        if name == "rww-httpd":
            self.argv = [server.BINARY, f"--listen=127.0.0.1:{self.port}", *options, root]
        self.log_path = os.path.join(self.run, "log")
        self.fetches, self.clients = [], []
        self.process = None
        procs.witnesses.append(self.testimony)

    @staticmethod
    def _edit(folder, edits):
        unused = set(edits)
        for name in os.listdir(folder):
            if not name.endswith((".conf", "file")):
                continue
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for old in [old for old in edits if old in text]:
                text = text.replace(old, edits[old])
                unused.discard(old)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        assert not unused, f"not in any recipe: {unused}"

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, preexec_fn=procs.die_with_parent,
                env={**os.environ, "TMPDIR": self.run})  # what serve makes goes with the rest
        procs.wait_until(self._answers, f"{self.name} to listen")
        return self

    def _answers(self):
        assert self.process.poll() is None, f"{self.name} ended\n{self.testimony()}"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def fetch(self, name, *options):
        """options: of curl"""
        fetch = Fetch(f"http://127.0.0.1:{self.port}/{name}", self.run, *options)
        self.fetches.append(fetch)
        return fetch

    def get(self, name):
        return self.fetch(name).end()

    def connect(self):
        client = server.Client(self.port)
        self.clients.append(client)
        return client

    def testimony(self):
        with open(self.log_path, errors="replace") as f:
            return f"--- {' '.join(self.argv)}\n{f.read()}\n---"

    def stop(self):
        """On the word SIGTERM everything ends that was started."""
        try:
            for client in self.clients:
                client.close()
            procs.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(procs.seconds(10))
            procs.wait_until(lambda: not self._left(), f"all of {self.name} to end")
        finally:
            self.destroy()

    def _left(self):
        """The processes of its session."""
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getsid(int(pid)) == self.process.pid and procs.alive(pid):
                    left.append(int(pid))
            except ProcessLookupError:
                continue
        return left

    def destroy(self):
        for fetch in self.fetches:
            fetch.destroy()
        if self.process:
            for pid in self._left():
                procs.kill(pid)
            self.process.wait(10)
        if self.testimony in procs.witnesses:
            procs.witnesses.remove(self.testimony)
        shutil.rmtree(self.run, ignore_errors=True)
