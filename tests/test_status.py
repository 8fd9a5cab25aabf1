# SPDX-License-Identifier: MIT
"""MOUNTPOINT/.rww/status, and rwwctl, which shows it and steers the mount."""
import ctypes
import errno
import fcntl
import json
import os
import pty
import queue
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from harness import procs
from harness.agent import write_file
from harness.mount import BINARY, BUILD
from harness.tools import need

pytestmark = [pytest.mark.sysfuse]

RWWCTL = os.path.join(BUILD, "fs", "rwwctl")


@pytest.fixture
def growing(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    return mount, writer


def status(mount):
    fd = mount.probe.call(os.open, mount.path(".rww/status"), os.O_RDONLY)
    text = b""
    while part := mount.probe.call(os.read, fd, 1 << 20):
        text += part
    mount.probe.call(os.close, fd)
    return json.loads(text.decode("utf-8"))


def rwwctl(mount, *args, code=0):
    """Run rwwctl to its end: (stdout, stderr)."""
    program = mount.popen([RWWCTL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = program.communicate(timeout=procs.seconds(20))
    assert program.returncode == code, (out, err)
    if code == 1:
        assert len(err.splitlines()) == 1 and err.startswith("rwwctl: ")
    return out, err


def all_text(value):
    """Every string and number in a document."""
    if isinstance(value, dict):
        return [x for v in value.values() for x in all_text(v)]
    if isinstance(value, list):
        return [x for v in value for x in all_text(v)]
    return [value]


@pytest.mark.sanitize
def test_status_tells_of_each_growing_file(growing, mode):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    reader.begin_read().wait_held()
    mount.write_file("complete", b"x")
    dead = mount.writer("dead")
    dead.write(b"abc")
    dead.agent.kill()
    mount.wait_state("dead", "aborted")
    files = {f["path"].lstrip("/"): f for f in status(mount)["files"]}
    assert set(files) == {"f", "dead"}
    told = all_text(files["f"])
    assert "growing" in told and 5 in told and 1 in told and writer.agent.pid in told
    assert "aborted" in all_text(files["dead"]) and 3 in all_text(files["dead"])
    assert "rww" not in " ".join(mount.probe.call(os.listdir, mount.mnt))


def open_and_close(path, count):
    for _ in range(count):
        os.close(os.open(path, os.O_RDONLY))


def numbers_listed(path, seconds):
    """How many files the document lists, each time it is read."""
    over, numbers = time.monotonic() + seconds, set()
    while time.monotonic() < over:
        with open(path, "rb") as f:
            numbers.add(len(json.load(f)["files"]))
    return numbers


@pytest.mark.modes("off")
def test_who_opens_an_aborted_file_does_not_hide_it(mount):
    """Nor is it listed twice."""
    mount.writer("f").agent.kill()
    mount.wait_state("f", "aborted")
    mount.open("f", os.O_PATH)  # the kernel does not forget it, whoever drops its caches
    busy = mount.agent().begin(open_and_close, mount.path("f"), 3000)
    assert mount.probe.call(numbers_listed, mount.path(".rww/status"), 0.5) == {1}
    busy.result()


def open_in_a_thread(path):
    """The thread stays."""
    opened = queue.SimpleQueue()

    def run():
        opened.put(os.open(path, os.O_WRONLY | os.O_CREAT))
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    return opened.get()


@pytest.mark.modes("off")
def test_a_writer_is_a_process_whichever_thread_opened(mount):
    agent = mount.agent()
    agent.call(open_in_a_thread, mount.path("f"))
    assert [w["pid"] for w in status(mount)["files"][0]["writers"]] == [agent.pid]


@pytest.mark.sanitize
def test_status_is_json_for_every_name(mount):
    names = [b"plain", b'quo"te', b"back\\slash", b"new\nline", b"\x01\x1f", "\u00e4\U0001f600".encode(),
             b"bad\xff\xfeutf8", b"\xed\xa0\x80", b"<script>&"]
    agent = mount.agent()
    for name in names:
        mount.open(os.fsdecode(name), os.O_WRONLY | os.O_CREAT, agent)
    files = status(mount)["files"]
    assert len(files) == len(names)
    told = [f["path"] for f in files]
    for good in ("plain", 'quo"te', "back\\slash", "new\nline", "\u00e4\U0001f600", "<script>&"):
        assert any(p.lstrip("/") == good for p in told), good


@pytest.mark.sanitize
def test_status_of_many_files_is_quick(mount):
    agent = mount.agent()
    for i in range(500):
        mount.open(f"f{i}", os.O_WRONLY | os.O_CREAT, agent)
    before = procs.cpu_seconds(mount.pid)
    assert len(status(mount)["files"]) == 500
    assert procs.cpu_seconds(mount.pid) - before < procs.seconds(0.5)


def inode_flags(path):
    """What lsattr(1) asks: FS_IOC_GETFLAGS."""
    with open(path, "rb") as f:
        fcntl.ioctl(f, 0x80086601, bytes(8))


@pytest.mark.sanitize
def test_the_control_folder_is_not_to_be_changed(mount, mode):
    """Root meets EPERM, as in /proc; others are stopped by the folder's mode before."""
    agent = mount.agent()
    mount.write_file("f", b"hello")
    mount.probe.call(os.mkdir, mount.path("d"))
    ours = errno.EACCES if mode == "user" else errno.EPERM
    new = mount.path(".rww/new")
    for call, *args in ((os.mkdir, new), (os.open, new, os.O_WRONLY | os.O_CREAT), (os.mkfifo, new),
                        (os.symlink, "x", new), (os.link, mount.path("f"), new),
                        (os.rename, mount.path("f"), new), (os.unlink, mount.path(".rww/status")),
                        (os.rename, mount.path(".rww/status"), mount.path("s")),
                        (os.truncate, mount.path(".rww/status"), 0),
                        (os.setxattr, mount.path(".rww/status"), "user.x", b"1"),
                        (os.removexattr, mount.path(".rww/status"), "user.x")):
        assert agent.errno(call, *args) == ours, (call, args)
    for call, *args in ((os.rmdir, mount.path(".rww")), (os.rename, mount.path(".rww"), mount.path("x")),
                        (os.rename, mount.path("d"), mount.path(".rww")),
                        (os.link, mount.path(".rww/status"), mount.path("s")),
                        (os.chmod, mount.path(".rww/status"), 0o666)):
        assert agent.errno(call, *args) == errno.EPERM, (call, args)
    assert agent.call(os.listxattr, mount.path(".rww/status")) == []
    assert agent.errno(os.getxattr, mount.path(".rww/status"), "user.x") == errno.ENODATA
    assert agent.errno(inode_flags, mount.path(".rww/status")) == errno.ENOTTY
    assert sorted(mount.probe.call(os.listdir, mount.mnt)) == ["d", "f"]
    assert agent.errno(os.mkdir, mount.path(".rww")) == errno.EEXIST
    assert agent.errno(write_file, mount.path(".rww/status"), b"x") == errno.EACCES
    assert status(mount)["files"] == []


def control_folder(path):
    """What it lists, and whether each entry is what it says."""
    with os.scandir(path) as entries:
        return [(e.name, e.is_file(), e.inode() == os.stat(e.path).st_ino) for e in entries]


@pytest.mark.modes("off")
def test_what_the_control_folder_lists(mount):
    assert mount.probe.call(control_folder, mount.path(".rww")) == [("status", True, True)]


# -- rwwctl


@pytest.mark.modes("on")
def test_rwwctl_status_of_all_kinds_of_files(mount):
    mount.writer("large").write(bytes(5 << 20))
    mount.writer("gone").write(b"x")
    mount.probe.call(os.unlink, mount.path("gone"))
    mount.writer("bad").write(b"hello")
    rwwctl(mount, "abort", "--reason", "out of tape", mount.path("bad"))
    more = mount.writer("more")
    rwwctl(mount, "declare", mount.path("more"), "3")
    more.write(b"more")
    procs.wait_until(lambda: mount.xattr("more", "reason"), "what is wrong to be noticed")
    out, _ = rwwctl(mount, "status", mount.mnt)
    assert set(re.findall(r"^(growing|aborted) +(\S+) .*?(\S+|\S+  \[.*\])$", out, re.MULTILINE)) == {
        ("growing", "5.0M", "large"), ("growing", "1", "(unlinked)"),
        ("growing", "4", "more  [4 bytes written, 3 declared]"),
        ("aborted", "5", "bad  [out of tape]")}


def test_rwwctl_status(growing):
    mount, writer = growing
    out, _ = rwwctl(mount, "status", mount.mnt)
    assert "growing" in out and "f" in out and str(writer.agent.pid) in out
    out, _ = rwwctl(mount, "status", "--json", mount.path("f"))
    assert json.loads(out)["files"][0]["path"].lstrip("/") == "f"


def name_the_thread(name):
    """prctl(PR_SET_NAME)."""
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)


def test_what_a_writer_calls_itself_does_not_act_on_the_terminal(mount):
    agent = mount.agent()
    agent.call(name_the_thread, b"\x1b]0;bad\x07")
    mount.writer("f", agent=agent).write(b"x")
    out, _ = rwwctl(mount, "status", mount.mnt)
    assert "bad" in out and "\x1b" not in out
    agent.kill()
    mount.wait_state("f", "aborted")
    _, err = rwwctl(mount, "wait", mount.path("f"), code=3)
    assert "aborted" in err and "\x1b" not in err and "\x07" not in err


@pytest.mark.modes("off")
def test_names_do_not_act_on_the_terminal(mode, make_mount):
    """Nor those of the directories, nor the control characters from U+0080 on."""
    mount = make_mount(mode, start=False)
    store = os.path.join(mount.base, "st\x1b[31more\nx")
    os.rename(mount.store, store)
    mount.store = store
    mount.start()
    mount.writer("a\u009b31mä\u00a0").write(b"x")
    out, _ = rwwctl(mount, "status", mount.mnt)
    assert f"{mount.base}/st?[31more?x on " in out and "a?31mä\u00a0\n" in out
    assert "\x1b" not in out and "\u009b" not in out
    _, err = rwwctl(mount, "wait", "--timeout=0", mount.path("a\u009b31mä\u00a0"), code=124)
    assert "a?31mä\u00a0: still" in err


@pytest.mark.modes("off")
@pytest.mark.parametrize("args", [("status",), ("status", "--json"), ("watch", "--count=1")])
def test_rwwctl_says_when_its_output_is_lost(growing, args):
    mount, _ = growing
    with open("/dev/full", "w") as full:
        done = subprocess.run([RWWCTL, *args, mount.mnt], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=procs.seconds(10))
    assert done.returncode == 1
    assert done.stderr == "rwwctl: cannot write: No space left on device\n"


@pytest.mark.modes("off")
def test_rwwctl_when_it_is_unmounted_meanwhile(mode, make_mount):
    mount = make_mount(mode, over_itself=True)
    writer = mount.writer("f")
    watching = mount.popen([RWWCTL, "watch", "--interval=1", mount.mnt], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    waiting = mount.popen([RWWCTL, "wait", mount.path("f")], stderr=subprocess.PIPE, text=True)
    assert watching.stdout.readline()
    for program in waiting, watching:
        procs.wait_until(lambda: procs.blocked_in(program.pid, "poll"), "rwwctl to sleep")
    mount.kill(signal.SIGTERM)
    assert mount.wait() == 0
    assert waiting.communicate(timeout=procs.seconds(10))[1] == \
        f"rwwctl: {mount.path('f')}: not on an rwwfs mount\n"
    assert watching.communicate(timeout=procs.seconds(10))[1] == \
        f"rwwctl: {mount.mnt}: not on an rwwfs mount\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")
def test_a_mount_of_long_names_is_known(tmp_path):
    """Its line in /proc/mounts has more than the 4096 bytes that getmntent(3) reads."""
    store, mnt = (str(tmp_path.joinpath(*[name * 250] * 9)) for name in "sm")
    os.makedirs(store)
    os.makedirs(mnt)
    started = subprocess.run([BINARY, store, mnt], check=True, capture_output=True, text=True,
                             timeout=procs.seconds(10))
    try:
        done = subprocess.run([RWWCTL, "status", mnt], capture_output=True, text=True,
                              timeout=procs.seconds(10))
    finally:
        subprocess.run(["umount", mnt], check=True, timeout=procs.seconds(10))
    assert done.stdout.startswith(f"{store} on {mnt}: "), done.stderr
    assert f"ready: {store} on {mnt}: passthrough " in started.stderr


@pytest.mark.modes("off")
def test_rwwctl_where_a_part_is_bound(mount):
    mount.probe.call(os.mkdir, mount.path("d"))
    mount.writer("d/f").write(b"x")
    part = os.path.join(mount.run, "part")
    os.mkdir(part)
    subprocess.run(["mount", "--bind", mount.path("d"), part], check=True, timeout=procs.seconds(10))
    try:
        _, error = rwwctl(mount, "status", part, code=1)
        rwwctl(mount, "wait", "--timeout=0", f"{part}/f", code=124)
    finally:
        subprocess.run(["umount", part], check=True, timeout=procs.seconds(10))
    assert error == f"rwwctl: {part}: a part of an rwwfs mount, which tells its status where it is " \
                    "mounted as a whole\n"


def test_rwwctl_watch_into_a_pipe(growing):
    mount, _ = growing
    out, _ = rwwctl(mount, "watch", "--interval", "0.1", "--count", "3", mount.mnt)
    assert out.count("growing") == 3
    assert "\x1b" not in out, "no terminal, no escape sequences"


def test_rwwctl_declares(growing):
    mount, writer = growing
    rwwctl(mount, "declare", mount.path("f"), "2K")
    assert mount.stat("f").st_size == 2048
    writer.write(b"x" * 2043)
    writer.close()
    mount.wait_state("f", "complete")


def test_rwwctl_aborts_and_completes(growing):
    mount, _ = growing
    for reason in "out of tape", "x" * 200:
        rwwctl(mount, "abort", "--reason", reason, mount.path("f"))
        assert mount.xattr("f", "state") == "aborted"
        assert mount.xattr("f", "reason") == reason
    rwwctl(mount, "complete", mount.path("f"))
    assert mount.xattr("f", "state") == "complete"


def test_rwwctl_waits_for_the_end(growing):
    mount, writer = growing
    mount.write_file("g", b"x")
    waiting = mount.popen([RWWCTL, "wait", mount.path("f"), mount.path("g")], stderr=subprocess.PIPE)
    rwwctl(mount, "wait", "--timeout", "0.2", mount.path("f"), code=124)
    assert waiting.poll() is None
    writer.close()
    assert waiting.wait(procs.seconds(10)) == 0
    rwwctl(mount, "wait", mount.path("f"))


@pytest.mark.modes("off")
@pytest.mark.options("hold=open", "nonblock=hold")
def test_rwwctl_waits_no_longer_than_told(growing):
    """Where an open waits for the end, with O_NONBLOCK as well."""
    mount, _ = growing
    rwwctl(mount, "wait", "--timeout", "0.1", mount.path("f"), code=124)


def test_rwwctl_waits_for_an_abort(growing):
    mount, writer = growing
    waiting = mount.popen([RWWCTL, "wait", mount.path("f")], stderr=subprocess.PIPE)
    mount.wait_state("f", "growing")
    writer.agent.kill()
    assert waiting.wait(procs.seconds(10)) == 3
    rwwctl(mount, "wait", mount.path("f"), code=3)


def test_rwwctl_in_the_wrong_place(growing):
    mount, _ = growing
    for command in ("status",), ("abort",), ("complete",), ("wait",):
        rwwctl(mount, *command, "/etc/passwd", code=1)
    rwwctl(mount, "declare", "/etc/passwd", "5", code=1)
    for command in ("abort", "complete", "wait"):
        rwwctl(mount, command, mount.path("missing"), code=1)
        rwwctl(mount, command, mount.mnt, code=1)
    _, error = rwwctl(mount, "declare", mount.path("f"), "2", code=1)
    assert error.endswith("/f: the size is less than what is written\n")
    _, error = rwwctl(mount, "declare", mount.path("f"), "8388608T", code=1)
    assert error.endswith("/f: no file can be that large\n")
    assert mount.xattr("f", "state") == "growing"


@pytest.mark.parametrize("args, message", [
    ((), "expected a command: see rwwctl --help"),
    (("frobnicate",), 'unknown command "frobnicate": see rwwctl --help'),
    (("declare", "f"), "declare: expected FILE SIZE"),
    (("declare", "f", "much"), 'declare: size "much": expected bytes, such as 1000 or 4M'),
    (("declare", "f", "-1"), 'declare: size "-1": expected bytes, such as 1000 or 4M'),
    (("declare", "f", "9" * 20), f'declare: size "{"9" * 20}": no file can be that large'),
    (("declare", "f", "16777216T"), 'declare: size "16777216T": no file can be that large'),
    (("abort",), "abort: expected FILE..."),
    (("abort", "--reason", "x" * 201, "f"),
     f'abort: reason "{"x" * 20}...": expected at most 200 bytes'),
    (("complete",), "complete: expected FILE..."),
    (("wait",), "wait: expected FILE..."),
    (("wait", "--timeout"), 'option "--timeout": expected a value'),
    (("wait", "--timeout", "soon", "f"),
     "option --timeout=soon: expected seconds, such as 30 or 0.5, up to 2147483647"),
    (("wait", "--count=1", "f"), 'unknown option "--count": see rwwctl --help'),
    (("wait", "--count", "1", "f"), 'unknown option "--count": see rwwctl --help'),
    (("status", "/", "/tmp"), 'unexpected argument "/tmp"'),
    (("status", "--all"), 'unknown option "--all": see rwwctl --help'),
    (("watch", "--count", "many"), "option --count=many: expected a number, 1 at least"),
    (("watch", "--count", "0", "/"), "option --count=0: expected a number, 1 at least"),
    (("watch", "--interval=0"), "option --interval=0: expected seconds, 0.01 to 3600"),
])
def test_rwwctl_misused(args, message):
    done = subprocess.run([RWWCTL, *args], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"rwwctl: {message}\n"


def test_rwwctl_help():
    first, *others = (subprocess.run([RWWCTL, *args], capture_output=True, text=True, check=True,
                                     timeout=10) for args in (["--help"], ["-h"], ["wait", "--help"]))
    assert first.stdout.startswith("usage: rwwctl status ") and not first.stderr
    assert all(done.stdout == first.stdout for done in others)


def test_rwwctl_on_a_dead_mount(growing):
    mount, _ = growing
    mount.kill(signal.SIGKILL)
    mount.wait()
    for args in (("status", mount.mnt), ("wait", mount.path("f")), ("complete", mount.path("f"))):
        rwwctl(mount, *args, code=1)
    mount.end_users()
    from harness.mount import rescue
    rescue(mount.mnt)


@pytest.mark.modes("on", "off")
def test_rwwctl_without_permission(growing):
    from harness.sidebyside import USER
    mount, _ = growing
    done = subprocess.run([RWWCTL, "abort", mount.path("f")], capture_output=True, text=True,
                          timeout=10, user=USER, group=USER, extra_groups=[])
    assert done.returncode == 1 and os.strerror(errno.EACCES) in done.stderr
    assert mount.xattr("f", "state") == "growing"


def test_rwwctl_watch_on_a_terminal(growing):
    """A picture that is drawn anew, with progress bars when the terminal is wide enough."""
    mount, writer = growing
    assert mount.probe.errno(os.setxattr, mount.path("f"), "user.rww.size", b"10") == 0
    for columns, bar in ((120, b"[##########..........]  50%"), (60, None)):
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        program = mount.popen([RWWCTL, "watch", "--count", "2", "--interval", "0.05", mount.mnt],
                              stdout=slave, stdin=slave)
        os.close(slave)
        picture = b""
        try:
            while part := os.read(master, 65536):
                picture += part
        except OSError as e:  # EIO: the other side is closed
            assert e.errno == errno.EIO
        os.close(master)
        assert program.wait(procs.seconds(10)) == 0
        assert picture.count(b"\x1b[H\x1b[J") == 2
        assert (bar in picture) if bar else (b"[#" not in picture and b" 50%" in picture)


def test_completion_in_bash():
    script = os.path.join(os.path.dirname(__file__), "../contrib/completions/rwwctl")
    ask = f"source {script}; COMP_WORDS=(rwwctl {{}}); COMP_CWORD={{}}; _rwwctl; echo ${{{{COMPREPLY[@]}}}}"
    for words, cword, answer in (("st", 1, b"status\n"), ("wait --t", 2, b"--timeout\n"),
                                 ("abort --", 2, b"--reason\n")):
        done = subprocess.run(["bash", "-c", ask.format(words, cword)], capture_output=True)
        assert done.stdout == answer


def test_completion_in_zsh(tmp_path):
    need("zsh")
    (tmp_path / "a-file").touch()
    folder = os.path.abspath(os.path.join(os.path.dirname(__file__), "../contrib/completions"))
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve("/bin/sh", ["sh", "-c", "exec zsh -fi"],
                  {"TERM": "dumb", "PS1": "ready> ", "PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    try:
        expect(fd, "ready> ")
        ask(fd, f"fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; echo lo''aded\n",
            "loaded")
        for typed, completed in (("rwwctl st\t", "rwwctl status "), ("rwwctl dec\t", "rwwctl declare "),
                                 ("rwwctl status --j\t", "rwwctl status --json "),
                                 ("rwwctl wait --t\t", "rwwctl wait --timeout "),
                                 ("rwwctl abort --r\t", "rwwctl abort --reason "),
                                 ("rwwctl complete a-\t", "rwwctl complete a-file ")):
            ask(fd, "\x15" + typed, completed)  # Ctrl-U: an empty line
    finally:
        os.close(fd)
        procs.kill(pid)
        procs.wait_exit(pid, 5, "zsh")


def ask(fd, typed, answer):
    os.write(fd, typed.encode())
    expect(fd, answer)


def expect(fd, text):
    """The terminal shows text, sooner or later."""
    shown = ""
    while text not in shown:
        assert select.select([fd], [], [], procs.seconds(10))[0], f"{text!r} not in {shown!r}"
        shown += os.read(fd, 4096).decode(errors="replace")


def meddle(path):
    """What else a reader of the document may try: the errors, None where there is none."""
    errors = []
    with open(path, "rb") as f:
        for call in (lambda: os.lseek(f.fileno(), 0, os.SEEK_DATA), lambda: os.fsync(f.fileno()),
                     lambda: os.fdatasync(f.fileno()), lambda: os.close(os.dup(f.fileno()))):
            try:
                call()
                errors.append(None)
            except OSError as e:
                errors.append(e.errno)
    return errors


def test_the_document_takes_what_a_file_takes(mount):
    """It has no handle like those of files: this killed the daemon."""
    errors = mount.agent().call(meddle, mount.path(".rww/status"))
    assert errors[1:] == [None] * 3 and errors[0] in (None, errno.EINVAL, errno.ENXIO)
    assert status(mount)["pid"] == mount.pid
