# SPDX-License-Identifier: MIT
"""Starting, readiness, and the ways to mount and to end."""
import errno
import os
import platform
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import mount as mounts
from harness import procs, sandbox
from harness.agent import read_file, write_file
from harness.data import pattern
from harness.mount import BINARY, NOBODY, mount_entry

pytestmark = [pytest.mark.sysfuse]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")


def follows(mount):
    """The mount does what it is for."""
    writer = mount.writer("growing")
    writer.write(b"hello")
    reader = mount.reader("growing")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""


# -- starting


@pytest.mark.sanitize
def test_the_start_up_line_says_what_was_negotiated(mount, mode):
    ready = [x for x in mount.log().splitlines() if x.startswith("rwwfs: ready:")]
    assert len(ready) == 1
    assert mount.ready["store"] == mount.store and mount.ready["mnt"] == mount.mnt
    assert mount.passthrough == (mode == "on")
    rest = mount.ready["rest"]
    assert mode == "on" or re.match(r" \(.+\)", rest), "why not"
    assert platform.release().split("-")[0] in rest
    assert re.search(r"libfuse 3\.\d+", rest)
    assert "hold=read" in rest


@pytest.mark.sanitize
@pytest.mark.options("hold=open")
def test_the_start_up_line_tells_the_holding(mount):
    assert "hold=open" in mount.ready["rest"]


def test_the_pidfile_names_the_daemon(mount):
    assert mount.pid == mount.process.pid
    with open(mount.pidfile) as f:
        assert f.read() == f"{mount.pid}\n"


def test_nothing_that_was_in_the_store_is_hidden(mount, make_mount):
    mount.write_file("f", b"hello")
    assert mount.stored_bytes("f") == b"hello"
    with open(mount.stored("g"), "w") as f:
        f.write("put into the store")
    os.chmod(mount.stored("g"), 0o644)
    assert mount.reader("g").read_all() == b"put into the store"
    assert sorted(mount.probe.call(os.listdir, mount.mnt)) == ["f", "g"]


def test_mount_options(mount, mode):
    _, fstype, source, options = mount_entry(mount.mnt)
    assert fstype == "fuse.rwwfs"
    assert source == mount.store
    options = options.split(",")
    assert {"nosuid", "nodev", "default_permissions"} <= set(options)
    assert ("allow_other" in options) == (mode != "user")


@needs_root
def test_roots_mount_is_for_everybody_but_not_more(make_mount):
    mount = make_mount("off")
    mount.write_file("open", b"hello")
    mount.write_file("secret", b"hello")
    mount.probe.call(os.chmod, mount.path("secret"), 0o600)
    user = mount.agent(uid=NOBODY)
    assert user.call(read_file, mount.path("open")) == b"hello"
    assert user.errno(os.open, mount.path("secret"), os.O_RDONLY) == errno.EACCES
    assert user.errno(write_file, mount.path("new"), b"x") == errno.EACCES
    assert user.errno(os.unlink, mount.path("open")) == errno.EACCES


@needs_root
def test_root_of_a_user_namespace_has_no_passthrough(make_mount):
    mount = make_mount("off", start=False)
    done = subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                           "unshare", "--user", "--map-root-user", "--mount", "timeout", "5", BINARY,
                           "-f", "-o", "passthrough=on", mount.store, mount.mnt],
                          capture_output=True, text=True, timeout=10)
    assert "passthrough=on: cannot be had" in done.stderr and done.returncode == 1, done


@pytest.mark.modes("off", "user")
def test_without_f_it_returns_when_ready(mode, make_mount):
    mount = make_mount(mode, background=True)
    assert mount.process.pid == mount.pid
    assert os.getsid(mount.pid) == mount.pid or os.getsid(mount.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{mount.pid}/cwd") == "/"
    follows(mount)


@needs_root
def test_without_f_it_lets_go_of_its_callers_pipes(base):
    """A script that captures the output is not kept waiting by the daemon."""
    mount = mounts.Mount(base, "off", background=True)
    try:
        procs.become_subreaper()
        done = subprocess.run(mount.argv(), capture_output=True, timeout=procs.seconds(10))
        assert done.returncode == 0
        assert b"ready" in done.stderr
        with open(mount.pidfile) as f:
            pid = int(f.read())
        assert mount_entry(mount.mnt)
        procs.kill(pid, signal.SIGTERM)
        assert procs.wait_exit(pid, 5, "rwwfs") == 0
    finally:
        mount.destroy()


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("closed", ["<&- >&-", ">&- 2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_without_f_and_without_standard_streams(mode, base, closed):
    """What it opens itself does not take their places, which it gives up later."""
    mount = mounts.Mount(base, mode, background=True)
    try:
        procs.become_subreaper()
        argv = ["sh", "-c", f'exec "$@" {closed}', "sh", *mount.argv()]
        assert subprocess.run(argv, timeout=procs.seconds(10)).returncode == 0
        with open(mount.pidfile) as f:
            pid = int(f.read())
        mount.write_file("f", b"hello")
        assert mount.stored_bytes("f") == b"hello"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        mount.end_users()
        procs.kill(pid, signal.SIGTERM)
        assert procs.wait_exit(pid, 5, "rwwfs") == 0
    finally:
        mount.destroy()


@needs_root
def test_debug_mode_stays_in_the_foreground_and_talks(base):
    mount = mounts.Mount(base, "off")
    argv = [a if a != "-f" else "-d" for a in mount.argv()]
    mount.argv = lambda: argv
    try:
        mount.start()
        before = len(mount.log())
        mount.stat()
        mount.probe.call(os.listdir, mount.mnt)
        procs.wait_until(lambda: len(mount.log()) > before, "debug output")
        mount.end_users()
        mount.unmount()
        assert mount.wait() == 0
    finally:
        mount.destroy()


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag):
    done = subprocess.run([BINARY, flag], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0
    for word in ("STORE", "MOUNTPOINT", "hold=", "passthrough=", "nonblock=", "hold_timeout="):
        assert word in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag):
    done = subprocess.run([BINARY, flag], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0
    assert re.search(r"rwwfs .*\d+\.\d+\.\d+", done.stdout)


@pytest.mark.sanitize
@pytest.mark.options("ro")
def test_read_only(mount):
    with open(mount.stored("f"), "w") as f:
        f.write("hello")
    os.chmod(mount.stored("f"), 0o666)
    user = mount.agent()
    assert user.call(read_file, mount.path("f")) == b"hello"
    assert user.errno(os.open, mount.path("f"), os.O_WRONLY) == errno.EROFS
    assert user.errno(os.unlink, mount.path("f")) == errno.EROFS
    assert user.errno(os.mkdir, mount.path("d")) == errno.EROFS


@pytest.mark.options("noatime", "noexec")
def test_usual_mount_options_are_passed_on(mount):
    options = mount_entry(mount.mnt)[3].split(",")
    assert "noexec" in options and "noatime" in options


@needs_root
@pytest.mark.parametrize("option", ["atime", "strictatime", "norelatime", "nolazytime", "silent", "mand"])
def test_mount_options_that_mean_nothing_here_are_understood(make_mount, option):
    follows(make_mount("off", option))


@needs_root
@pytest.mark.parametrize("options, shown", [("ro,rw", "rw"), ("rw,ro", "ro")])
def test_the_last_of_ro_and_rw_counts(make_mount, options, shown):
    assert shown in mount_entry(make_mount("off", options).mnt)[3].split(",")


@pytest.mark.sanitize
@pytest.mark.parametrize("size", [8192, 10_000, 131_072, 1_048_576])
def test_max_read(mode, make_mount, size):
    """Reads are cut there, and what is read is the same."""
    mount = make_mount(mode, f"max_read={size}")
    assert f"max_read={size}" in mount_entry(mount.mnt)[3].split(",")
    data = pattern(3_000_000)
    writer = mount.writer("f")
    writer.write(data[:1_000_000])
    follower = mount.reader("f")
    seen = follower.read(1 << 21)
    assert seen
    while len(seen) < 1_000_000:
        seen += follower.read(1 << 21)
    held = follower.begin_read(1 << 21).wait_held()
    for at in range(1_000_000, len(data), 500_000):
        writer.write(data[at:at + 500_000])
    writer.close()
    seen += held.result()
    while part := follower.read(1 << 21):
        seen += part
    assert seen == data
    mount.wait_state("f", "complete")
    assert mount.reader("f").read_all() == data


@pytest.mark.parametrize("value", ["", "0", "4096", "8191", "1048577", "-1", "1M", "99999999999999999999"])
def test_max_read_that_cannot_work(base, value):
    mount = mounts.Mount(base, "off", f"max_read={value}")
    done = subprocess.run(mount.argv(), capture_output=True, text=True, timeout=procs.seconds(10))
    assert done.returncode == 1
    assert done.stderr == f"rwwfs: option max_read={value}: expected bytes, 8192 to 1048576\n"
    mount.destroy()


def test_a_message_is_written_at_once():
    """Whoever reads the log meanwhile, or writes to it, too, finds whole lines."""
    out, into = os.pipe2(os.O_DIRECT)  # what is written at once is read at once, and nothing else
    try:
        subprocess.run([BINARY, "s" * 200, "m"], stderr=into, timeout=procs.seconds(10), check=False)
        message = os.read(out, 4096).decode()
    finally:
        os.close(out)
        os.close(into)
    assert message == f"rwwfs: store {'s' * 200}: No such file or directory\n"


@pytest.mark.parametrize("option, message", [
    ("fsname", "option fsname=: expected a value"),
    ("fsname=", "option fsname=: expected a value"),
    ("subtype", "option subtype=: expected a value"),
    ("subtype=other", "option subtype=other: expected rwwfs, by which a mount is known"),
    ("subtype=rwwfs.", "option subtype=rwwfs.: expected rwwfs, by which a mount is known"),
    ("hold", "option hold=: expected one of read, open, none"),
    ("ro=1", 'unknown option "ro=1": see rwwfs --help')])
def test_options_with_a_wrong_value_or_none(base, option, message):
    mount = mounts.Mount(base, "off", option)
    done = subprocess.run(mount.argv(), capture_output=True, text=True, timeout=procs.seconds(10))
    assert done.returncode == 1 and done.stderr == f"rwwfs: {message}\n"
    mount.destroy()


@pytest.mark.parametrize("option", ["linger", "hold_timeout", "attr_timeout", "entry_timeout"])
@pytest.mark.parametrize("value", ["2147483648", "18446744073709550", "18446744073709551616", "-1", "1h"])
def test_seconds_that_cannot_work(base, option, value):
    """Added to the clock, those of the second value would have been over long ago."""
    mount = mounts.Mount(base, "off", f"{option}={value}")
    done = subprocess.run(mount.argv(), capture_output=True, text=True, timeout=procs.seconds(10))
    assert done.returncode == 1
    assert done.stderr == (f"rwwfs: option {option}={value}: expected seconds, such as 30 or 0.5, "
                           "up to 2147483647\n")
    mount.destroy()


@pytest.mark.options("hold_timeout=2147483647")
def test_the_most_seconds_that_are_possible(mount):
    writer = mount.writer("f")
    writer.write(b"abc")
    follower = mount.reader("f")
    assert follower.read(3) == b"abc"
    held = follower.begin_read(3).wait_held()
    writer.close()
    assert held.result() == b""


@needs_root
@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_auto_unmount_that_fusermount3_does_not_know(make_mount, background):
    """One line says so, ours; up to libfuse 3.14 nothing is asked for that it may not know."""
    mount = make_mount("off", "auto_unmount", start=False, background=background)
    program = os.path.join(mount.base, "fusermount3")
    with open(program, "w") as f:
        f.write("#!/bin/sh\ncase $1 in --auto-unmount) echo unrecognized >&2; exit 1;; esac\n"
                f"exec {shutil.which('fusermount3')} \"$@\"\n")
    os.chmod(program, 0o755)
    path = f"{mount.base}:{os.environ['PATH']}"
    mount.wrapper = ["env", f"PATH={path}"]
    mount.allow_log("^rwwfs: option auto_unmount: fusermount3 is too old for libfuse 3.*, ignoring$")
    mount.start()
    libfuse = int(re.search(r"libfuse 3\.(\d+)", mount.log()).group(1))
    assert len(mount.log().splitlines()) == (1 if libfuse < 15 else 2)
    follows(mount)


@needs_root
@pytest.mark.modes("user")
def test_a_user_who_cannot_see_how_others_end_is_told(mode, make_mount):
    mount = make_mount(mode, "allow_other", start=False)
    conf = os.path.join(mount.base, "fuse.conf")
    with open(conf, "w") as f:
        f.write("user_allow_other\n")
    subprocess.run(["mount", "--bind", conf, "/etc/fuse.conf"], check=True)
    try:
        mount.allow_log("^rwwfs: only root is told how processes of others end: ")
        mount.start()
    finally:
        subprocess.run(["umount", "/etc/fuse.conf"], check=True)
    assert "only root is told" in mount.log()


@needs_root
def test_options_given_separately(base, make_mount):
    mount = make_mount("off", start=False)
    argv = [BINARY, mount.store, mount.mnt, "-f", "-o", "passthrough=off", "-ohold=none",
            "-o", f"pidfile={mount.pidfile},nonblock=hold"]
    mount.argv = lambda: argv
    mount.start()
    assert "hold=none" in mount.ready["rest"]


@needs_root
def test_relative_paths(base, make_mount):
    mount = make_mount("off", start=False)
    argv = ["sh", "-c", f"cd {mount.base} && exec {BINARY} -f -o passthrough=off,"
            f"pidfile=run/pid store mnt"]
    mount.argv = lambda: argv
    mount.start()
    follows(mount)


@pytest.mark.modes("off", "user")
def test_a_relative_pidfile_is_seen_from_where_it_was_given(mode, make_mount):
    """Not from /, where the daemon goes."""
    mount = make_mount(mode, start=False, background=True)
    argv = ["env", "-C", os.path.dirname(mount.pidfile), BINARY, "-o",
            ",".join([*mount.options, f"pidfile={os.path.basename(mount.pidfile)}"]),
            mount.store, mount.mnt]
    mount.argv = lambda: argv
    mount.start()
    assert os.path.exists(mount.pidfile)


# -- over itself


@pytest.mark.sanitize
@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_over_itself(mode, make_mount, background):
    mount = make_mount(mode, start=False, over_itself=True, background=background)
    for name in ("before",):
        path = os.path.join(mount.store, name)
        with open(path, "w") as f:
            f.write("was there")
        os.chmod(path, 0o644)
    mount.start()
    assert mount.reader("before").read_all() == b"was there"
    follows(mount)
    mount.write_file("after", b"written through the mount")
    mount.end_users()
    mount.unmount()
    assert mount.wait() == 0
    assert mount.stored_bytes("after") == b"written through the mount"
    assert mount.stored_bytes("growing") == b"hello"


# -- mount(8)


@pytest.fixture
def mount_helper():
    """rwwfs installed, with /sbin/mount.rwwfs, in this namespace only."""
    scratch = os.path.join("/dev/shm", f"rwwfs-sbin-{os.getpid()}")
    for name in ("upper", "work"):
        os.makedirs(os.path.join(scratch, name))
    for name in ("rwwfs", "mount.rwwfs"):
        os.symlink(BINARY, os.path.join(scratch, "upper", name))
    sbin = os.path.realpath("/sbin")
    sandbox.mount("overlay", sbin, "overlay", 0,
                  f"lowerdir={sbin},upperdir={scratch}/upper,workdir={scratch}/work")
    yield
    sandbox.umount(sbin, sandbox.MNT_DETACH)
    mounts.remove_tree(scratch)


def run_mount(make_mount, argv_of, passthrough="auto"):
    """Mount by a command that goes into the background; the Mount to look at and to end."""
    mount = make_mount("off", start=False, background=True)
    options = f"passthrough={passthrough},pidfile={mount.pidfile}"
    argv = argv_of(mount, options)
    mount.argv = lambda: argv
    return mount.start()


def test_a_single_thread(mode, make_mount):
    """It suffices, for it waits for nobody."""
    threads = []
    for letters in (["-s"], []):
        mount = make_mount(mode, start=False)
        program, *rest = mount.argv()
        mount.argv = lambda argv=(program, *letters, *rest): argv
        mount.start()
        other = mount.writer("other")
        other.write(b"hello")
        readers = [mount.reader("other") for _ in range(3)]
        assert [reader.read() for reader in readers] == [b"hello"] * 3
        held = [reader.begin_read().wait_held() for reader in readers]
        follows(mount)
        other.write(b"!")
        assert [read.result() for read in held] == [b"!"] * 3
        threads.append(procs.threads(mount.pid))
    assert threads[0] < threads[1]


@needs_root
@pytest.mark.parametrize("fstype", ["rwwfs", "fuse.rwwfs"])
def test_mount_t(make_mount, mount_helper, fstype):
    mount = run_mount(make_mount, lambda m, o: ["mount", "-t", fstype, "-o", o, m.store, m.mnt])
    follows(mount)
    mount.end_users()
    subprocess.run(["umount", mount.mnt], check=True, timeout=10)
    assert mount.wait() == 0


@needs_root
@pytest.mark.parametrize("fstype", ["rwwfs", "fuse.rwwfs"])
def test_fstab(make_mount, mount_helper, fstype):
    def argv(m, o):
        fstab = os.path.join(m.base, "fstab")
        with open(fstab, "w") as f:
            f.write(f"{m.store} {m.mnt} {fstype} "
                    f"defaults,noauto,nofail,_netdev,noatime,x-systemd.automount,{o} 0 0\n")
        return ["mount", "-T", fstab, m.mnt]

    mount = run_mount(make_mount, argv)
    assert "noatime" in mount_entry(mount.mnt)[3].split(",")
    follows(mount)


def rwwfs_as(base, name):
    """By a name that mount(8) would call."""
    program = os.path.join(base, name)
    if not os.path.lexists(program):
        os.symlink(BINARY, program)
    return program


@pytest.fixture(params=["mount", "mount.rwwfs", "mount.fuse.rwwfs"])
def mount_8(request, base, mount_helper):
    """mount(8), or rwwfs by a name that it would call; arguments in the order in which it gives them."""
    if request.param == "mount":
        return lambda flag, options, store, mnt: ["mount", flag, "-t", "rwwfs", "-o", options, store, mnt]
    program = rwwfs_as(base, request.param)
    return lambda flag, options, store, mnt: [program, store, mnt, flag, "-o", options]


@needs_root
@pytest.mark.parametrize("letters, shown", [("-nvr", "ro"), ("-rw", "rw"), ("-wr", "ro")])
def test_letters_of_mount_8(make_mount, base, letters, shown):
    program = rwwfs_as(base, "mount.rwwfs")
    mount = run_mount(make_mount, lambda m, o: [program, m.store, m.mnt, letters, "-o", o])
    assert shown in mount_entry(mount.mnt)[3].split(",")


@needs_root
def test_mount_f_mounts_nothing(base, mount_8):
    mount = mounts.Mount(base, "off")
    for options, good in (("hold=none", True), ("hold=forever", False), ("frobnicate", False)):
        done = subprocess.run(mount_8("-f", options, mount.store, mount.mnt), capture_output=True,
                              timeout=procs.seconds(10))
        assert (done.returncode == 0) == good, done
        assert mount_entry(mount.mnt) is None
    mount.destroy()


@needs_root
def test_mount_s_ignores_unknown_options(make_mount, mount_8):
    mount = run_mount(make_mount, lambda m, o: mount_8("-s", f"frobnicate,{o},frob=7", m.store, m.mnt))
    follows(mount)
    assert procs.threads(mount.pid) > 3, "one thread, as -s of rwwfs has it"


# -- ending


@pytest.mark.sanitize
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(mount, signum):
    mount.write_file("f", b"hello")
    mount.end_users()
    mount.kill(signum)
    assert mount.wait() == 0
    assert mount_entry(mount.mnt) is None
    assert mount.stored_bytes("f") == b"hello"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_files_open(mount, signum):
    """Held reads fail, writers are cut off, nothing hangs."""
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    started = time.monotonic()
    mount.kill(signum)
    assert held.errno() not in (0, errno.EINTR)
    assert mount.wait() == 0
    assert time.monotonic() - started < procs.seconds(2)
    assert mount_entry(mount.mnt) is None
    assert mount.stored_bytes("f") == b"hello"


def test_umount(mount):
    mount.end_users()
    mount.unmount()
    assert mount.wait() == 0


@needs_root
def test_fusermount3_by_root(make_mount):
    mount = make_mount("off")
    subprocess.run(["fusermount3", "-u", mount.mnt], check=True, timeout=10)
    assert mount.wait() == 0


def test_a_busy_mount_is_not_unmounted(mount, mode):
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    reader.read()
    held = reader.begin_read().wait_held()
    if mode == "user":
        busy = subprocess.run(["fusermount3", "-u", mount.mnt], capture_output=True, timeout=10,
                              **mount.identity())
        assert busy.returncode != 0
    else:
        assert procs.errno_of(sandbox.umount, mount.mnt) == errno.EBUSY
    writer.write(b"!")
    assert held.result() == b"!"


@needs_root
def test_lazy_unmount_lets_the_last_users_finish(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_blocked("read")
    agents, mount.agents = mount.agents, []
    sandbox.umount(mount.mnt, sandbox.MNT_DETACH)
    writer.write(b" world")
    assert held.result() == b" world"
    held = reader.begin_read().wait_blocked("read")
    writer.close()
    assert held.result() == b""
    for agent in agents:
        agent.end()
    assert mount.wait() == 0


def test_mounted_again_and_again(mode, make_mount):
    first = make_mount(mode)
    for i in range(3):
        mount = make_mount(mode, store=first.store) if i else first
        follows(mount)
        mount.end_users()
        mount.unmount()
        assert mount.wait() == 0
        assert not os.path.ismount(mount.mnt)
