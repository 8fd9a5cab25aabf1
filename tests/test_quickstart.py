# SPDX-License-Identifier: MIT
"""contrib/quickstart shows what it promises, and leaves nothing, whenever it is ended."""
import glob
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

import pytest

from harness import mount as mounts
from harness import procs
from harness.tools import need

QUICKSTART = os.path.join(mounts.REPO, "contrib", "quickstart")


@pytest.fixture
def folder(base):
    """Its TMPDIR; empty at the end, and no process is left that was given it."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse: not accessible")
    need("curl")
    folder = tempfile.mkdtemp(dir=base, prefix="quickstart-")
    yield folder
    try:
        procs.wait_until(lambda: not left_in(folder), f"nothing to be left: {left_in(folder)}", 3)
    except AssertionError:
        for pid in left_in(folder):
            procs.kill(pid)
        for work in glob.glob(f"{folder}/*"):
            subprocess.run(["umount", "-l", f"{work}/mnt"], check=False)  # it may be none
        raise
    with open("/proc/self/mountinfo") as f:
        assert folder not in f.read()
    assert os.listdir(folder) == []


def left_in(folder):
    """{pid: command} of the processes that were given this TMPDIR."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if f"TMPDIR={folder}".encode() in f.read().split(b"\0"):
                    with open(f"/proc/{pid}/cmdline") as g:
                        found[int(pid)] = g.read()
        except OSError:
            continue
    return found


def environment(folder):
    return {**os.environ, "TMPDIR": folder, "RWW_BUILD": mounts.MESON_BUILD}


def configured():
    """When the build folder was."""
    return os.stat(os.path.join(mounts.MESON_BUILD, "build.ninja")).st_mtime_ns


def test_once(folder):
    before = configured()
    done = subprocess.run([QUICKSTART, "--once"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=environment(folder),
                          timeout=procs.seconds(60))
    assert done.returncode == 0, done.stdout + done.stderr
    for program in ("cat", "curl"):
        lines = re.findall(rf" s  {program}  +(.*)", done.stdout)
        assert lines[0] == "starts" and lines[-1].startswith("ended by itself")
        assert [int(re.match(r"has line (\d), ", x)[1]) for x in lines[1:-1]] == [1, 2, 3, 4, 5, 6]
    early = int(re.search(r"just got (\d) lines", done.stdout)[1])
    assert 0 < early < 6
    assert re.search(r"^rww-httpd: listening on http://127\.0\.0\.1:\d+/$", done.stdout, re.M)
    assert "Now try it" not in done.stdout
    assert configured() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="root: needed for another user")
def test_neither_fuse_nor_root(folder):
    need("unshare", "setpriv")
    os.chmod(folder, 0o755)
    script = shutil.copy(QUICKSTART, folder)  # the repository may be in somebody's home
    closed = os.path.join(folder, "fuse")
    os.close(os.open(closed, os.O_CREAT, 0o600))
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c",
         'mount --bind "$1" /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$2"',
         "sh", closed, script], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**environment(folder), "RWW_BUILT": "1"}, timeout=procs.seconds(20))
    os.unlink(script), os.unlink(closed)
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch("quickstart: no sudo: run this as root, .*\n", done.stderr)


class Terminal:
    """quickstart on a terminal of its own."""

    def __init__(self, folder):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's "&" may have ignored it
            os.execvpe(QUICKSTART, [QUICKSTART], environment(folder))
        self.seen = ""

    def wait(self, text, timeout=60):
        """Reads on until it has shown text; None: until its end."""
        deadline = time.monotonic() + procs.seconds(timeout)
        while text is None or text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r}:\n{self.seen}"
            try:
                data = os.read(self.fd, 4096)
            except OSError:  # EIO: nobody has the other side any more
                data = b""
            if not data and text is None:
                return
            assert data, f"ended before {text!r}:\n{self.seen}"
            self.seen += data.decode(errors="replace").replace("\r\n", "\n")

    def key(self, key):
        os.write(self.fd, key)

    def end(self):
        """Its exit status."""
        self.wait(None, 20)
        os.close(self.fd)
        return procs.wait_exit(self.pid, 10, "quickstart")


@pytest.mark.parametrize("moment, status", [
    ("is mounted", 130), ("rwwfs: ready", 130), ("writes line 2", 130), ("Ctrl-C here", 0)])
def test_ctrl_c_removes_everything(folder, moment, status):
    terminal = Terminal(folder)
    terminal.wait(moment)
    if status == 0:
        url = re.search(r"open (http://127\.0\.0\.1:\d+/) in a browser", terminal.seen)[1]
        with urllib.request.urlopen(url, timeout=procs.seconds(10)) as answer:
            assert b"demo.txt" in answer.read()
    terminal.key(b"\x03")
    assert terminal.end() == status, terminal.seen
    assert "Terminated" not in terminal.seen  # as bash has it of a job


def test_a_demo_of_root_is_for_terminals_of_root(folder):
    terminal = Terminal(folder)
    terminal.wait("Ctrl-C here")
    assert ("in two other terminals of root:" in terminal.seen) == (os.geteuid() == 0)
    terminal.key(b"\x03")
    assert terminal.end() == 0, terminal.seen


def test_a_mount_that_died_is_removed(folder):
    terminal = Terminal(folder)
    terminal.wait("Ctrl-C here")
    for pid, command in left_in(folder).items():
        if command.split("\0")[0].endswith("/rwwfs"):
            procs.kill(pid)
    terminal.key(b"\x03")
    assert terminal.end() == 0, terminal.seen


def test_the_end_of_its_terminal_removes_everything(folder):
    """Its programs fail to write there at the moment it is told: several, for what seldom meets."""
    terminals = [Terminal(folder) for _ in range(8)]
    for terminal in terminals:
        terminal.wait("writes line 1")
        os.close(terminal.fd)
    for terminal in terminals:
        assert procs.wait_exit(terminal.pid, 20, "quickstart") == 128 + signal.SIGHUP
