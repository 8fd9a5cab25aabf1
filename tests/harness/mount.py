# SPDX-License-Identifier: MIT
"""One rwwfs daemon on one mount.

Ends with assertions: descriptors back at the baseline, unmounted, exit 0 in time, nothing
unexpected logged. Only when one of them fails is the connection aborted and the daemon killed.
"""
import os
import re
import shutil
import signal
import subprocess
import tempfile

from . import procs, sandbox
from .agent import Agent, File

NOBODY = 65534  # has a passwd entry, which fusermount3 asks for

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("RWW_BUILD") or os.path.join(REPO, "build"))
MESON_BUILD = os.environ.get("RWW_MESON") or BUILD  # see tests/run
BINARY = os.path.join(BUILD, "fs", "rwwfs")

READY = re.compile(r"^rwwfs: ready: (?P<store>.+) on (?P<mnt>.+): passthrough "
                   r"(?P<passthrough>on|off)(?P<rest>.*)$")

# libfuse's own, when a request is being read in the very moment in which the filesystem goes.
GONE = "fuse: reading device: Software caused connection abort"

# What a mode means: who runs the daemon (None: whoever runs the tests), and what it is told.
MODES = {
    "on": (None, ["passthrough=on"]),
    "off": (None, ["passthrough=off"]),
    "user": (NOBODY if os.geteuid() == 0 else None, []),
}


def mount_entry(path):
    """(connection number, fstype, source, options) of the topmost mount at path, or None."""
    found = None
    with open("/proc/self/mountinfo") as f:
        for line in f:
            words = line.split()
            if words[4].encode().decode("unicode_escape") == path:
                dash = words.index("-")
                found = (int(words[2].split(":")[1]), words[dash + 1], words[dash + 2],
                         words[5] + "," + words[dash + 3])
    return found


def rescue(path):
    """Get rid of whatever is mounted at path, stuck or not."""
    while (entry := mount_entry(path)) is not None:
        if entry[1].startswith("fuse"):
            abort(entry[0])
        try:
            if os.geteuid() != 0:
                subprocess.run(["fusermount3", "-uz", path], check=True, timeout=5)
            else:
                sandbox.umount(path, sandbox.MNT_DETACH | sandbox.UMOUNT_NOFOLLOW)
        except (OSError, subprocess.SubprocessError):
            return


def abort(connection):
    try:
        with open(f"{sandbox.FUSECTL}/{connection}/abort", "w") as f:
            f.write("1")
    except OSError:
        pass


def is_sanitized():
    with open(BINARY, "rb") as f:
        code = f.read()
    return any(mark in code for mark in (b"__asan_init", b"__tsan_init"))


class Adopted:
    """The part of Popen that Mount uses, for a daemon that went into the background."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        return self.returncode


class Mount:
    """options: "a,b=c". mode: see MODES. allow_other is the daemon's default for root."""

    def __init__(self, base, mode="on", options="", store=None, over_itself=False, mnt=None,
                 wrapper=(), background=False):
        self.mode = mode
        self.uid, mode_options = MODES[mode]
        self.base = tempfile.mkdtemp(dir=base, prefix=f"{mode}-")
        self.store = store or os.path.join(self.base, "store")
        self.mnt = self.store if over_itself else mnt or os.path.join(self.base, "mnt")
        self.run = os.path.join(self.base, "run")
        self.log_path = os.path.join(self.run, "stderr")
        self.pidfile = os.path.join(self.run, "pid")
        for path in (self.base, self.store, self.mnt, self.run):
            os.makedirs(path, exist_ok=True)
            if self.uid is not None and path not in (store, mnt):
                os.chown(path, self.uid, self.uid)
        os.chmod(self.base, 0o755)
        self.options = [*mode_options, *filter(None, [options])]
        self.wrapper, self.background = list(wrapper), background
        self.allowed = []
        self.agents, self.programs = [], []
        self.process = self.pid = self.connection = self.ready = None
        self.failed = False
        self.stopped = True
        self._probe = None
        procs.witnesses.append(self.testimony)

    # -- the daemon

    def argv(self):
        options = ",".join([*self.options, f"pidfile={self.pidfile}"])
        dirs = [self.store] if self.mnt == self.store else [self.store, self.mnt]
        foreground = [] if self.background else ["-f"]
        return [*self.wrapper, BINARY, *foreground, "-o", options, *dirs]

    def environment(self):
        env = dict(os.environ)
        for tool in ("ASAN", "TSAN", "UBSAN"):
            given = env.get(f"{tool}_OPTIONS")
            env[f"{tool}_OPTIONS"] = ":".join(
                filter(None, [given, f"log_path={self.run}/sanitizer", "print_stacktrace=1"]))
        return env

    def start(self):
        if self.background:
            procs.become_subreaper()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.environment(), cwd="/", start_new_session=True,
                preexec_fn=procs.die_with_parent, **self.identity())
        self.stopped = False
        if self.background:
            self._await_background()
        procs.wait_until(self._is_ready, "the pidfile of rwwfs", 10)
        self.connection = mount_entry(self.mnt)[0]
        match = READY.match(self._ready_line())
        assert match, f"no start-up line\n{self.log()}"
        self.ready = match.groupdict()
        self.baseline = procs.descriptors(self.pid)
        return self

    def _await_background(self):
        """Without -f the command returns 0 once the mount answers; the daemon becomes our child."""
        status = self.process.wait(procs.seconds(10))
        assert status == 0, f"rwwfs ended with {status}\n{self.log()}"
        assert mount_entry(self.mnt) is not None, "returned before the mount was there"
        with open(self.pidfile) as f:
            self.process = Adopted(int(f.read()))

    def _ready_line(self):
        return next((x for x in self.log().splitlines() if x.startswith("rwwfs: ready:")), "")

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"rwwfs ended with {self.process.returncode}\n{self.log()}")
        try:
            with open(self.pidfile) as f:
                text = f.read()
        except FileNotFoundError:
            return False
        if not text.endswith("\n"):
            return False
        self.pid = int(text)
        return bool(self._ready_line())

    @property
    def passthrough(self):
        return self.ready["passthrough"] == "on"

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def allow_log(self, pattern):
        """Lines matching this are expected in this test."""
        self.allowed.append(re.compile(pattern))

    def unexpected_log(self):
        bad = [line for line in self.log().splitlines()
               if not READY.match(line) and line != GONE
               and not any(p.search(line) for p in self.allowed)]
        return bad + self.sanitizer_reports()

    def sanitizer_reports(self):
        found = []
        for name in os.listdir(self.run):
            if name.startswith("sanitizer"):
                with open(os.path.join(self.run, name), errors="replace") as f:
                    found.append(f"{name}:\n{f.read()}")
        return found

    def testimony(self):
        if self.stopped:
            return ""
        if self.process.poll() is not None:
            reports = "\n".join(self.sanitizer_reports())
            return (f"--- rwwfs {self.pid} ended with {self.process.returncode}\n"
                    f"{self.log()}{reports}\n---")
        return (f"--- rwwfs {self.pid} ({self.mode}) {' '.join(self.argv())}\n{self.log()}"
                f"{procs.dump(self.pid)}\nwaiting requests: {self.waiting()}\n---")

    def waiting(self):
        """Requests the kernel has outstanding on this connection; 0 when it does not tell us."""
        try:
            with open(f"{sandbox.FUSECTL}/{self.connection}/waiting") as f:
                return int(f.read())
        except OSError:
            return 0

    # -- its users

    def identity(self):
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}

    def agent(self, **who):
        """A program under test, as the mount's own user unless told otherwise."""
        who.setdefault("uid", self.uid)
        agent = Agent(**who)
        self.agents.append(agent)
        return agent

    @property
    def probe(self):
        """The agent for looking at the mount; it makes no call that may be held."""
        if self._probe is None or self._probe.status is not None:
            self._probe = self.agent()
        return self._probe

    def path(self, name):
        return os.path.join(self.mnt, name)

    def stored(self, name):
        return os.path.join(self.store, name)

    def stored_bytes(self, name):
        with open(self.stored(name), "rb") as f:
            return f.read()

    def open(self, name, flags=os.O_RDONLY, agent=None, mode=0o644):
        agent = agent or self.agent()
        path = self.path(name)
        return File(agent, path, agent.call(os.open, path, flags, mode), self)

    def writer(self, name, flags=os.O_WRONLY | os.O_CREAT, agent=None):
        return self.open(name, flags, agent)

    def reader(self, name, flags=0, agent=None):
        return self.open(name, os.O_RDONLY | flags, agent)

    def write_file(self, name, data):
        """A complete file, written through the mount."""
        f = self.writer(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.probe)
        f.write(data)
        f.close()
        self.wait_state(name, "complete")

    def stat(self, name=""):
        return self.probe.call(os.stat, self.path(name))

    def xattr(self, name, key):
        return self.probe.call(os.getxattr, self.path(name), f"user.rww.{key}").decode()

    def declare(self, name, size):
        self.probe.call(os.setxattr, self.path(name), "user.rww.size", str(size).encode())

    def abort(self, name):
        self.probe.call(os.setxattr, self.path(name), "user.rww.state", b"aborted")

    def readers_of(self, pid, fd):
        """Held reads of the file behind another process's descriptor; works for unlinked files."""
        return int(self.probe.call(os.getxattr, f"/proc/{pid}/fd/{fd}", "user.rww.readers"))

    def wait_readers(self, name, count, timeout=10):
        procs.wait_until(lambda: int(self.xattr(name, "readers")) == count,
                         f"{count} held reads of {name}", timeout)

    def wait_state(self, name, state, timeout=10):
        procs.wait_until(lambda: self.xattr(name, "state") == state, f"{name} to be {state}",
                         timeout)

    def popen(self, argv, **kwargs):
        """A real program run by the mount's user."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        program = subprocess.Popen(argv, start_new_session=True, preexec_fn=procs.die_with_parent,
                                   **{**self.identity(), **kwargs})
        self.programs.append(program)
        return program

    # -- the end

    def end_users(self):
        for program in self.programs:
            if program.poll() is None:
                procs.kill(program.pid)
                program.returncode = procs.wait_exit(program.pid, 5, "a killed program")
            for stream in (program.stdin, program.stdout, program.stderr):
                if stream is not None:
                    stream.close()
        for agent in self.agents:
            agent.end(5)
        self.agents, self.programs, self._probe = [], [], None

    def leaked(self):
        """Descriptors beyond those at start, but for the pipe that each of its threads may keep."""
        more = {fd: target for fd, target in procs.descriptors(self.pid).items()
                if fd not in self.baseline and not target.startswith(f"{self.run}/sanitizer")}
        pipes = [fd for fd, target in more.items() if target.startswith("pipe:")]
        if len(pipes) <= 2 * procs.threads(self.pid):
            for fd in pipes:
                del more[fd]
        return more

    def unmount(self, lazily=False):
        if self.mode != "user":
            sandbox.umount(self.mnt, sandbox.MNT_DETACH if lazily else sandbox.UMOUNT_NOFOLLOW)
        else:
            subprocess.run(["fusermount3", "-uz" if lazily else "-u", self.mnt], check=True,
                           timeout=5, **self.identity())

    def wait(self, timeout=5):
        """The daemon's exit status."""
        if self.process.returncode is None:
            self.process.returncode = procs.wait_exit(self.process.pid, timeout, "rwwfs")
        self.stopped = True
        return self.process.returncode

    def check_log(self):
        bad = self.unexpected_log()
        assert not bad, "rwwfs logged:\n" + "\n".join(bad)

    def stop(self):
        """End the daemon and assert that it ended well."""
        try:
            self.end_users()
            if not self.stopped:
                procs.wait_until(lambda: not self.leaked(),
                                 f"descriptors to be closed: {self.leaked()}", 5)
                self.unmount()
                status = self.wait()
                self.check_log()
                assert status == 0, f"rwwfs ended with {status}\n{self.log()}"
            assert mount_entry(self.mnt) is None, "still mounted"
            self.check_log()
        except BaseException:
            self.destroy()
            raise
        self._forget()

    def destroy(self):
        """End the daemon without asking anything of it."""
        rescue(self.mnt)  # not by self.connection: its number may be another mount's by now
        if self.process is not None and self.process.returncode is None:
            procs.kill(self.process.pid)
            self.process.returncode = procs.wait_exit(self.process.pid, 10, "killed rwwfs")
        self.stopped = True
        for agent in self.agents:
            agent.kill()
            agent.end(5)
        for program in self.programs:
            procs.kill(program.pid)
            program.wait(10)
        self._forget()

    def _forget(self):
        if self.testimony in procs.witnesses:
            procs.witnesses.remove(self.testimony)

    def kill(self, sig=signal.SIGKILL):
        procs.kill(self.process.pid, sig)


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
