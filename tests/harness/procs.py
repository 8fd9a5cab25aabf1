# SPDX-License-Identifier: MIT
"""Waiting for conditions, and what the kernel says about a process."""
import contextlib
import ctypes
import errno
import os
import select
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

# Sanitizer builds are slower; conftest raises this, deadlines only ever mean "something is stuck".
TIME_SCALE = [1]

# Called when a deadline passes: each returns text worth printing (daemon logs, stacks).
witnesses = []

SYSCALLS = {"read": 0, "open": 2, "poll": 7, "pread64": 17, "readv": 19, "select": 23,
            "sendfile": 40, "select6": 270, "openat": 257, "splice": 275, "preadv": 295,
            "epoll_wait": 232, "epoll_pwait": 281, "ppoll": 271, "copy_file_range": 326,
            "preadv2": 327, "write": 1, "flock": 73, "futex": 202, "fgetxattr": 193}


def testimony():
    return "\n".join(filter(None, (w() for w in list(witnesses))))


def seconds(timeout):
    return timeout * TIME_SCALE[0]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(cond, what, timeout=10, pause=0.005):
    """Poll cond() until it is true and return its value; the deadline's error says what was awaited."""
    deadline = time.monotonic() + seconds(timeout)
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds(timeout)} s for: {what}\n{testimony()}")
        time.sleep(pause)


def stays(cond, what, duration=0.15):
    """cond() is true now and at every look during duration. Only for showing that nothing happens."""
    deadline = time.monotonic() + duration
    while time.monotonic() < deadline:
        assert cond(), f"did not stay: {what}\n{testimony()}"
        time.sleep(0.005)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper():
    """Orphans below us become our children, so that a background daemon can be waited for."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def alive(pid):
    try:
        return state(pid) not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pause(pid):
    """SIGSTOP, and until each of its threads has stopped."""
    kill(pid, signal.SIGSTOP)
    wait_until(lambda: {state(int(tid)) for tid in os.listdir(f"/proc/{pid}/task")} == {"T"},
               f"{pid} to stop")


@contextlib.contextmanager
def stopped_thread(tid):
    """This one alone, by ptrace(2)."""
    def ptrace(request):
        assert not libc.ptrace(request, tid, None, None), os.strerror(ctypes.get_errno())

    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(tid, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def state(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0]


def syscall(pid, tid=None):
    """(number, [args]) of the call the process is blocked in, or None while it runs or is gone."""
    path = f"/proc/{pid}/task/{tid}/syscall" if tid else f"/proc/{pid}/syscall"
    try:
        with open(path) as f:
            words = f.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not words or words[0] in ("running", "-1"):
        return None
    return int(words[0]), [int(w, 16) for w in words[1:7]]


def blocked_in(pid, *names, fd=None):
    """The process sleeps inside one of these calls (on this descriptor, its first argument)."""
    call = syscall(pid)
    if call is None or call[0] not in [SYSCALLS[n] for n in names]:
        return False
    return (fd is None or call[1][0] == fd) and state(pid) == "S"


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def descriptors(pid):
    """{fd: target} without O_PATH descriptors, which only name inodes and are bounded elsewhere."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                flags = next(int(x.split()[1], 8) for x in f if x.startswith("flags:"))
            if not flags & os.O_PATH:
                found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except (FileNotFoundError, StopIteration):
            continue
    return found


def watches(pid):
    """How many files it watches with inotify."""
    count = 0
    for fd, target in descriptors(pid).items():
        if target == "anon_inode:inotify":
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                count += f.read().count("inotify wd:")
    return count


def dump(pid):
    """Where every thread of the process is, for the failure report."""
    out = []
    try:
        for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            base = f"/proc/{pid}/task/{tid}"
            parts = [f"task {tid}"]
            for name in ("comm", "wchan", "syscall", "stack"):
                try:
                    with open(f"{base}/{name}") as f:
                        parts.append(f"{name}: {f.read().strip()}")
                except OSError as e:
                    parts.append(f"{name}: {e.strerror}")
            out.append("\n  ".join(parts))
    except FileNotFoundError:
        out.append(f"process {pid} is gone")
    return "\n".join(out)


def wait_exit(pid, timeout, what):
    """Exit status of our child (negative: signal); an assertion when it does not end in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        pidfd = -1
    try:
        if pidfd >= 0:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            ready = poller.poll(seconds(timeout) * 1000)
            assert ready, f"{what} (pid {pid}) did not end in {seconds(timeout)} s\n{dump(pid)}\n{testimony()}"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def kill(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def errno_of(call, *args, **kwargs):
    """The errno a call fails with, or 0."""
    try:
        call(*args, **kwargs)
    except OSError as e:
        return e.errno
    return 0


def name_of(err):
    return errno.errorcode.get(err, str(err)) if err else "success"
