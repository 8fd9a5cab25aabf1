# SPDX-License-Identifier: MIT
"""Where a run happens: folders, mounts, helper programs, and their end.

Everything lies below one temporary folder, so that the store, the reference and the mount share a
filesystem: unless another is asked for, a fresh ext4 in an image in memory, where no disk and no
neighbour's fsync is measured. Root works in a mount namespace of its own. Whatever happens, close()
ends the processes that were started here, by their ids, unmounts and removes.
"""
import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PROGRAMS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")
# libfuse's examples with the low-level API: of Debian's libfuse3-dev, and of the libfuse that
# contrib/setup built.
EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
LIBFUSE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(PROGRAMS))), ".deps", "libfuse")
KERNEL_EXAMPLE = os.path.join(LIBFUSE, "share", "examples", "passthrough_hp.cc")
INSIDE = "RWW_BENCH_INSIDE"


class Unavailable(Exception):
    """This machine or this build cannot do the bench; the reason is for the table."""


class Failed(Exception):
    """A program did something else than it should: there is no figure."""


def is_root():
    return os.geteuid() == 0


def enter_namespace():
    """Root: runs this program again in a private mount namespace."""
    if not is_root() or not shutil.which("unshare"):
        return
    if os.environ.get(INSIDE) != "1":
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private",
                              sys.executable, *sys.argv])
    # A copy of somebody's mount would keep it alive after they have unmounted it.
    for target, fstype in mounts():
        if fstype.startswith("fuse."):
            subprocess.run(["umount", "-l", target], check=False)


def mounts():
    """(mountpoint, type), inner ones first."""
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            words = line.split()
            target = words[4].encode().decode("unicode_escape")
            found.append((target, words[words.index("-") + 1]))
    return found[::-1]


def is_mounted(path):
    return any(target == path for target, _ in mounts())


def wait_until(condition, what, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.005)


def available_memory():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:")) << 10


def drop_caches():
    """Dentries and inodes; the blocks they were read from stay."""
    if not is_root():
        raise Unavailable("needs root to drop caches")
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2")


def cpu(pid):
    """Seconds of processor time of a process, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of a process


class Daemon:
    """A filesystem daemon in the foreground, mounted."""

    def __init__(self, place, name, argv, mnt):
        self.name, self.mnt = name, mnt
        self.log = os.path.join(place.root, f"{name}.log")
        with open(self.log, "ab") as log:
            self.process = place.start(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        try:
            wait_until(self._answers, f"{name} to mount", 10)
        except BaseException:
            self.kill()
            raise

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}: {self.said()}")
        return is_mounted(self.mnt) and os.statvfs(self.mnt)

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read().strip()

    def rss(self):
        """Bytes of its own memory."""
        return 1024 * self._status("RssAnon")

    def threads(self):
        return self._status("Threads")

    def _status(self, key):
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise Failed(f"{self.name} is gone: {self.said()}")

    def cpu(self):
        return cpu(self.pid)

    def settle(self):
        """Waits until it has nothing to do, such as FORGETs."""
        before, quiet = self.cpu(), 0
        for _ in range(400):
            time.sleep(0.02)
            now = self.cpu()
            quiet = quiet + 1 if now - before < 0.0002 else 0
            before = now
            if quiet == 4:
                return

    def stop(self):
        unmount = ["umount", self.mnt] if is_root() else ["fusermount3", "-u", self.mnt]
        if self.process.poll() is None:
            done = subprocess.run(unmount, check=False, capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise Failed(f"{self.name}: {done.stderr.strip()}")
        status = self.process.wait(30)
        if status:
            raise Failed(f"{self.name} ended with {status}: {self.said()}")

    def kill(self):
        """Its requests fail, so nobody hangs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if is_mounted(self.mnt):
            lazily = ["umount", "-l"] if is_root() else ["fusermount3", "-uz"]
            subprocess.run([*lazily, self.mnt], check=False, capture_output=True, timeout=60)


class Place:
    def __init__(self, args):
        self.args = args
        self.base = self.root = tempfile.mkdtemp(prefix="rww-bench.", dir=args.dir)
        self.children, self.daemons, self.others = [], [], []
        self.programs = {}
        self.serial = 0
        self.kind = "ext4 in memory" if not args.dir and self._mount_image() else args.dir or "TMPDIR"

    def _mount_image(self):
        """Makes self.root a filesystem of its own; False where that cannot be had."""
        memory, image, root = (os.path.join(self.base, n) for n in ("memory", "memory/image", "ext4"))
        if not is_root() or not shutil.which("mkfs.ext4") or available_memory() < 6 << 30:
            return False
        os.mkdir(memory)
        os.mkdir(root)
        for path, command in (
                (memory, ["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", memory]),
                (None, ["truncate", "-s", "2G", image]),
                (None, ["mkfs.ext4", "-q", "-F", "-N", "200000", image]),
                (root, ["mount", "-o", "loop,noinit_itable", image, root])):
            if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
                return False
            if path:
                self.others.insert(0, path)
        self.root = root
        return True

    def build_type(self):
        """Meson's: how well the compiler was asked to optimise."""
        path = os.path.join(self.args.build, "meson-info", "intro-buildoptions.json")
        with open(path) as f:
            return next(o["value"] for o in json.load(f) if o["name"] == "buildtype")

    # -- processes

    def start(self, argv, **kwargs):
        """A child that is ended with us, with as many descriptors as there may be."""
        def prepare():
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        process = subprocess.Popen(argv, cwd="/", preexec_fn=prepare, **kwargs)
        self.children.append(process)
        return process

    def program(self, name):
        """Compiles programs/NAME.c, once."""
        return self._compiled(os.path.join(PROGRAMS, name + ".c"), "-Wall", "-D_GNU_SOURCE")

    def _compiled(self, source, *flags, compiler=os.environ.get("CC", "cc")):
        if source not in self.programs:
            path = os.path.join(self.root, os.path.basename(source).partition(".")[0])
            subprocess.run([*shlex.split(compiler), "-O2", "-pthread", "-o", path, source, *flags],
                           check=True)
            self.programs[source] = path
        return self.programs[source]

    def helper(self, name, *args, **kwargs):
        """Starts a helper program; its words come through Helper.words()."""
        return Helper(self, name, [str(a) for a in args], **kwargs)

    def lines(self, name, *args):
        """Runs a helper to its end: the numbers of each line."""
        helper = self.helper(name, *args)
        return [line.split() for line in helper.finish()]

    # -- folders and mounts

    def folder(self, *names):
        path = os.path.join(self.root, *names)
        os.makedirs(path, exist_ok=True)
        return path

    @contextlib.contextmanager
    def mount(self, store=None, example=None, options=""):
        """rwwfs, or one of libfuse's examples ("ll" or "hp"), on a fresh store or the one given."""
        self.serial += 1
        store = store or self.folder(f"store-{self.serial}")
        mnt = self.folder(f"mnt-{self.serial}")
        name = f"{'passthrough_' + example if example else 'rwwfs'}-{self.serial}"
        argv = {None: self._rwwfs, "ll": self._example, "hp": self._kernel_example}[example](
            store, mnt, options)
        daemon = Daemon(self, name, argv, mnt)
        self.daemons.append(daemon)
        daemon.store = store
        try:
            yield daemon
        except BaseException:
            daemon.kill()
            raise
        else:
            daemon.stop()
        finally:
            self.daemons.remove(daemon)
            if not is_mounted(mnt):
                os.rmdir(mnt)
            if store.startswith(os.path.join(self.root, "store-")) and not example:
                shutil.rmtree(store, ignore_errors=True)

    def _rwwfs(self, store, mnt, _options):
        binary = os.path.join(self.args.build, "fs", "rwwfs")
        options = ["-o", ",".join(self.args.options)] if self.args.options else []
        return [binary, "-f", *options, store, mnt]

    def _example(self, store, mnt, options):
        path = self.args.passthrough_ll
        if not path and os.path.exists(EXAMPLE):
            flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], text=True,
                                   stdout=subprocess.PIPE, check=True).stdout
            path = self._compiled(EXAMPLE, *flags.split())
        if not path:
            raise Unavailable("needs libfuse's example: --passthrough-ll PATH")
        if not os.access(path, os.X_OK):
            raise Unavailable(f"{path} is no program")
        return [path, "-f", "-o", f"source={store}{options}", mnt]

    def _kernel_example(self, store, mnt, _options):
        """The one with passthrough in the kernel; it has it check permissions, too."""
        if not os.path.exists(KERNEL_EXAMPLE):
            raise Unavailable(f"needs {KERNEL_EXAMPLE}, which contrib/setup keeps of a libfuse it builds")
        env = {**os.environ, "PKG_CONFIG_LIBDIR": os.path.join(LIBFUSE, "lib", "pkgconfig")}
        flags = subprocess.run(["pkg-config", "--static", "--cflags", "--libs", "fuse3"], text=True,
                               stdout=subprocess.PIPE, check=True, env=env).stdout
        # libfuse's own build has the definition, without which there are no extended attributes.
        path = self._compiled(KERNEL_EXAMPLE, "-w", "-DHAVE_SETXATTR", *flags.split(), compiler="g++")
        return [path, "--foreground", store, mnt]

    @contextlib.contextmanager
    def tmpfs(self, options):
        if not is_root():
            raise Unavailable("needs root to mount a tmpfs")
        path = os.path.join(self.base, "tmpfs")
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        self.others.insert(0, path)
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=True)
            self.others.remove(path)

    # -- the end

    @contextlib.contextmanager
    def time_limit(self, seconds):
        """Ends daemons and helpers of a bench that hangs, upon which it fails."""
        timer = threading.Timer(seconds, self.end_all)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def end_all(self):
        for daemon in list(self.daemons):
            daemon.kill()
        for child in self.children:
            if child.poll() is None:
                child.kill()

    def close(self):
        self.end_all()
        for child in self.children:
            child.wait()
        for path in self.others:
            for _ in range(250):  # what the helpers forked ends just now
                if not subprocess.run(["umount", path], check=False, capture_output=True).returncode:
                    break
                time.sleep(0.02)
            else:
                subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(self.base, ignore_errors=True)


class Helper:
    """A helper program that is running."""

    def __init__(self, place, name, args, talk=False):
        self.name = name
        self.errors = tempfile.TemporaryFile(dir=place.root)
        self.process = place.start(
            [place.program(name), *args], text=True, stdout=subprocess.PIPE, stderr=self.errors,
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL)

    def words(self):
        """The words of the next line that it prints."""
        line = self.process.stdout.readline()
        if not line:
            self.finish()
            raise Failed(f"{self.name} ended early")
        return line.split()

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self):
        """The lines it still prints, once it has ended well."""
        rest = self.process.stdout.read().splitlines()
        status = self.process.wait()
        if status:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip()
            raise Failed(f"{self.name} ended with {status}: {said[:500]}")
        return rest


def on_signals_exit():
    """SIGTERM and SIGHUP run the teardown, as SIGINT does."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(1))
