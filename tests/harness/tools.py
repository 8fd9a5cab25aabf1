# SPDX-License-Identifier: MIT
"""Real programs, producers, and filesystems in image files."""
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time

import pytest

from . import procs, sandbox
from .data import pieces


def need(*programs):
    """Skip, naming what is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program}: not installed")


def run(argv, **kwargs):
    kwargs.setdefault("timeout", procs.seconds(30))
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(argv, capture_output=True, **kwargs)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stderr.decode()}"
    return done.stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    with open(path, "rb") as f:
        return sha256(f.read())


def produce(writer, data, duration, seed=0, largest=8192):
    """Write data in uneven pieces at the pace of a producer that takes about duration seconds."""
    cut = list(pieces(data, seed, largest))
    started = time.monotonic()
    for i, piece in enumerate(cut):
        writer.write(piece)
        ahead = started + duration * i / len(cut) - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


class Image:
    """A small filesystem in an image file, mounted."""

    def __init__(self, base, fstype, size, options="", mkfs=()):
        need(f"mkfs.{fstype}")
        self.folder = tempfile.mkdtemp(dir=base, prefix=f"{fstype}-")
        os.chmod(self.folder, 0o755)
        self.file = os.path.join(self.folder, "image")
        self.path = os.path.join(self.folder, "fs")
        os.mkdir(self.path)
        with open(self.file, "wb") as f:
            f.truncate(size)
        run([f"mkfs.{fstype}", *mkfs, self.file])
        options = ",".join(filter(None, ["loop", options]))
        run(["mount", "-t", fstype, "-o", options, self.file, self.path])

    def end(self):
        try:
            sandbox.umount(self.path)
        except OSError:
            sandbox.umount(self.path, sandbox.MNT_DETACH)
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def limited_memory(pid, size):
    """The process may use size bytes of memory, then the kernel kills it."""
    return limited(pid, size, ("memory/memory.limit_in_bytes", "memory.max"))


def limited_threads(pid, count):
    """The process cannot have more threads."""
    return limited(pid, count, ("pids/pids.max", "pids.max"))


@contextlib.contextmanager
def limited(pid, value, names):
    """A cgroup (v1 or v2)."""
    for name in names:
        folder, limit = os.path.split(os.path.join("/sys/fs/cgroup", name))
        group = os.path.join(folder, f"rwwfs-test-{os.getpid()}")
        try:
            os.mkdir(group)
            write(os.path.join(group, limit), value)
            write(os.path.join(group, "cgroup.procs"), pid)
            break
        except OSError:
            if os.path.isdir(group):
                os.rmdir(group)
    else:
        pytest.skip(f"{names[-1]}: no cgroup to be made here")
    try:
        yield
    finally:
        procs.wait_until(lambda: removed(group), "the cgroup to be empty")


def write(path, value):
    with open(path, "r+") as f:  # which is there: not every folder is a cgroup
        f.write(str(value))


def removed(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True
