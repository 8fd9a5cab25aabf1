# SPDX-License-Identifier: MIT
"""Programs under test: processes that run calls on command.

An Agent is forked from pytest, takes on an identity and runs the functions it is sent, one at a
time. A call that blocks blocks only the agent: pytest looks at it from outside (Pending) and never
touches a mount itself. Functions must be importable by name (os.read, or module level in a test).
"""
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import struct
import traceback

from . import procs

HEADER = struct.Struct("<I")


class Timeout(AssertionError):
    pass


class Remote(Exception):
    """An exception other than OSError in the agent: a mistake in a test."""


def raw_read(fd, count):
    """read(2) once, without Python's retry after a signal: bytes, or OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buf = ctypes.create_string_buffer(count)
    got = libc.read(fd, buf, ctypes.c_size_t(count))
    if got < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))
    return buf.raw[:got]


def raw_open(path, flags=os.O_RDONLY):
    """open(2) once, without Python's retry after a signal."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.open(os.fsencode(path), flags)
    if fd < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))
    return fd


def read_all(fd, count=65536):
    """Read to EOF as a copying program does."""
    parts = []
    while True:
        part = os.read(fd, count)
        if not part:
            return b"".join(parts)
        parts.append(part)


def read_exactly(fd, size):
    """size bytes, which have to be there sooner or later."""
    got = b""
    while len(got) < size:
        part = os.read(fd, size - len(got))
        assert part, f"ended after {len(got)} of {size} bytes"
        got += part
    return got


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    return len(data)


def pwrite_all(fd, data, offset):
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    return done


def handle_signal(signum, action="return"):
    """Install a handler without SA_RESTART that returns, or ignore/default."""
    handlers = {"return": lambda *_: None, "ignore": signal.SIG_IGN, "default": signal.SIG_DFL}
    signal.signal(signum, handlers[action])


def read_file(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def write_file(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        return write_all(fd, data)
    finally:
        os.close(fd)


def _recv_exactly(sock, count):
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _send(sock, obj):
    data = pickle.dumps(obj)
    sock.sendall(HEADER.pack(len(data)) + data)


def _receive(sock):
    return pickle.loads(_recv_exactly(sock, HEADER.unpack(_recv_exactly(sock, HEADER.size))[0]))


def _portable(exc):
    if isinstance(exc, OSError):
        return OSError(exc.errno, exc.strerror or str(exc))
    return Remote("".join(traceback.format_exception(exc)))


def _serve(sock):
    while True:
        try:
            func, args, kwargs = _receive(sock)
        except EOFError:
            return
        try:
            answer = (True, func(*args, **kwargs))
        except BaseException as e:
            answer = (False, _portable(e))
        _send(sock, answer)


def become(uid, gid, groups):
    if uid is not None:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        procs.libc.prctl(procs.PR_SET_DUMPABLE, 1, 0, 0, 0)
    procs.die_with_parent()


class Agent:
    def __init__(self, uid=None, gid=None, groups=(), umask=0o022):
        self.uid = uid
        self.status = None
        self.pending = None
        self.sock, theirs = socket.socketpair()
        self.theirs = theirs.fileno()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(theirs, parent, uid, uid if gid is None else gid, list(groups), umask)
        theirs.close()

    def _child(self, sock, parent, uid, gid, groups, umask):
        try:
            gc.disable()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            keep = sock.fileno()
            os.closerange(3, keep)
            os.closerange(keep + 1, 4096)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            become(uid, gid, groups)
            os.umask(umask)
            if os.getppid() == parent:
                _serve(sock)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    def begin(self, func, *args, fd=None, **kwargs):
        assert self.pending is None, f"agent {self.pid} is busy with {self.pending}"
        _send(self.sock, (func, args, kwargs))
        self.pending = Pending(self, f"{getattr(func, '__name__', func)}{args!r:.120}", fd)
        return self.pending

    def call(self, func, *args, timeout=10, **kwargs):
        return self.begin(func, *args, **kwargs).result(timeout)

    def errno(self, func, *args, **kwargs):
        return procs.errno_of(self.call, func, *args, **kwargs)

    def open(self, path, flags, mode=0o644):
        return File(self, path, self.call(os.open, path, flags, mode))

    def kill(self, sig=signal.SIGKILL):
        procs.kill(self.pid, sig)

    def wait(self, timeout=10):
        """The exit status once the process is gone (negative: the signal)."""
        if self.status is None:
            self.status = procs.wait_exit(self.pid, timeout, "agent")
            self.sock.close()
        return self.status

    def end(self, timeout=10):
        """End the process whatever it does; its descriptors are closed when this returns."""
        if self.status is None:
            if self.pending is None:
                self.sock.shutdown(socket.SHUT_RDWR)
            else:
                self.kill()
            self.wait(timeout)


class Pending:
    """A call that an agent is making."""

    def __init__(self, agent, what, fd):
        self.agent, self.what, self.fd = agent, what, fd
        self.mount = None

    def __repr__(self):
        return f"{self.what} in {self.agent.pid}"

    def done(self, timeout=0):
        poller = select.poll()
        poller.register(self.agent.sock, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def result(self, timeout=10):
        if not self.done(procs.seconds(timeout)):
            raise Timeout(f"{self} did not return in {procs.seconds(timeout)} s\n"
                          f"{procs.dump(self.agent.pid)}\n{procs.testimony()}")
        try:
            ok, value = _receive(self.agent.sock)
        except (EOFError, ConnectionResetError):
            raise AssertionError(f"{self}: the process ended, status {self.agent.wait()}") from None
        self.agent.pending = None
        if not ok:
            raise value
        return value

    def errno(self, timeout=10):
        return procs.errno_of(self.result, timeout)

    def _still_going(self):
        if self.done():
            try:
                value = self.result()
                outcome = f"returned {value!r:.80}"
            except OSError as e:
                outcome = f"failed with {procs.name_of(e.errno)}"
            raise AssertionError(f"{self} should be waiting but {outcome}")
        return True

    def wait_blocked(self, *names, timeout=10):
        """The kernel says that the process sleeps in one of these system calls."""
        procs.wait_until(lambda: self._still_going() and
                         procs.blocked_in(self.agent.pid, *names, fd=self.fd),
                         f"{self} to block in {'/'.join(names)}", timeout)
        return self

    def wait_blocked_somewhere(self, timeout=10):
        """The process sleeps in the kernel, not in waiting for our next command."""
        def sleeping():
            call = procs.syscall(self.agent.pid)
            return (self._still_going() and call is not None and call[1][0] != self.agent.theirs
                    and procs.state(self.agent.pid) == "S")
        procs.wait_until(sleeping, f"{self} to block", timeout)
        return self

    def wait_held(self, timeout=10):
        """The kernel says the process sleeps in its read, the daemon counts a held read."""
        self.wait_blocked("read", "pread64", "readv", "preadv", "preadv2", timeout=timeout)
        if self.mount is not None:
            procs.wait_until(
                lambda: self._still_going() and self.mount.readers_of(self.agent.pid, self.fd) > 0,
                f"the daemon to count {self} as held", timeout)
        return self

    def stays_held(self, duration=0.15):
        procs.stays(self._still_going, f"{self} held", duration)
        return self.wait_held()


class File:
    """A descriptor that an agent has open."""

    def __init__(self, agent, path, fd, mount=None):
        self.agent, self.path, self.fd, self.mount = agent, path, fd, mount

    def call(self, func, *args, **kwargs):
        return self.agent.call(func, self.fd, *args, **kwargs)

    def begin(self, func, *args, **kwargs):
        pending = self.agent.begin(func, self.fd, *args, fd=self.fd, **kwargs)
        pending.mount = self.mount
        return pending

    def read(self, count=1 << 20, timeout=10):
        return self.call(os.read, count, timeout=timeout)

    def pread(self, count, offset, timeout=10):
        return self.call(os.pread, count, offset, timeout=timeout)

    def read_all(self, timeout=10):
        return self.call(read_all, timeout=timeout)

    def begin_read(self, count=1 << 20):
        return self.begin(os.read, count)

    def begin_pread(self, count, offset):
        return self.begin(os.pread, count, offset)

    def write(self, data):
        return self.call(write_all, data)

    def pwrite(self, data, offset):
        return self.call(pwrite_all, data, offset)

    def truncate(self, size):
        return self.call(os.ftruncate, size)

    def seek(self, offset, whence=os.SEEK_SET):
        return self.call(os.lseek, offset, whence)

    def stat(self):
        return self.call(os.fstat)

    def errno(self, func, *args, **kwargs):
        return procs.errno_of(self.call, func, *args, **kwargs)

    def close(self):
        self.call(os.close)
