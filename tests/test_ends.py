# SPDX-License-Identifier: MIT
"""How a file ends: complete, aborted, by hand, after a linger; and what readers are told."""
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from harness import procs, refuse
from harness.agent import read_exactly
from harness.sidebyside import USER
from harness.tools import Image, limited_memory

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


@pytest.fixture
def growing(mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    return mount, writer


def check_aborted(mount, name="f", data=b"hello"):
    """Everybody gets the bytes, nobody an end."""
    mount.wait_state(name, "aborted")
    for flags in (0, os.O_NONBLOCK):
        reader = mount.reader(name, flags)
        assert reader.call(read_exactly, len(data)) == data
        assert reader.errno(os.read, 100) == errno.EIO
        assert reader.errno(os.pread, 100, len(data) + 5000) == errno.EIO
        assert reader.pread(100, 0) == data[:100]
    assert mount.stat(name).st_size == len(data)


def check_complete(mount, name="f", data=b"hello"):
    mount.wait_state(name, "complete")
    assert mount.reader(name).read_all() == data
    assert not os.listxattr(mount.stored(name))


def set_state(mount, value, name="f", agent=None):
    return (agent or mount.probe).errno(os.setxattr, mount.path(name), "user.rww.state", value)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_killed_writer_aborts(growing, signum):
    mount, writer = growing
    follower = mount.reader("f")
    assert follower.read() == b"hello"
    held = follower.begin_read().wait_held()
    late = mount.reader("f")
    writer.agent.kill(signum)
    assert held.errno() == errno.EIO
    assert late.read() == b"hello"
    assert late.errno(os.read, 100) == errno.EIO
    check_aborted(mount)
    assert mount.xattr("f", "reason")
    assert os.listxattr(mount.stored("f")), "the end is remembered in the store"


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, 0])
def test_without_an_answer_of_move_pages(mode, make_mount, error):
    """Nor with one that is always the same."""
    number = {"x86_64": "279", "aarch64": "239"}[os.uname().machine]
    mount = make_mount(mode, wrapper=(sys.executable, refuse.__file__, number, str(error)))
    killed, closed = mount.writer("f"), mount.writer("g")
    for writer in (killed, closed):
        writer.write(b"hello")
    killed.agent.kill()
    closed.close()
    check_aborted(mount)
    check_complete(mount, "g")


def test_a_writer_killed_for_want_of_memory_aborts(growing):
    mount, writer = growing
    with limited_memory(writer.agent.pid, 64 << 20):
        writer.agent.begin(eat, 1 << 30)
        assert writer.agent.wait() == -signal.SIGKILL
    check_aborted(mount)
    assert "killed by signal 9" in mount.xattr("f", "reason")


def eat(size):
    return len(bytearray(b"x") * size)


@pytest.mark.parametrize("option, status, end", [
    ("abort_on=signal", 3, "complete"), ("abort_on=signal", 0, "complete"),
    ("abort_on=failure", 3, "aborted"), ("abort_on=failure", 0, "complete"),
    ("abort_on=failure", -9, "aborted"), ("abort_on=never", -9, "complete")])
def test_abort_on(mode, make_mount, option, status, end):
    mount = make_mount(mode, option)
    writer = mount.writer("f")
    writer.write(b"hello")
    if status < 0:
        writer.agent.kill(-status)
    else:
        writer.agent.begin(os._exit, status)
    assert writer.agent.wait() == status
    (check_aborted if end == "aborted" else check_complete)(mount)


def fork_keeping(fd):
    """A child that keeps fd open until its pipe is closed, then ends well: (pid, pipe)."""
    get, put = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(put)
        os.read(get, 1)
        os._exit(0)
    os.close(get)
    return pid, put


def test_a_child_that_inherited_the_file_may_finish_it(growing):
    mount, writer = growing
    writer.call(fork_keeping)
    follower = mount.reader("f")
    follower.read()
    held = follower.begin_read().wait_held()
    writer.agent.kill()  # which also closes the pipe
    assert held.result() == b""
    check_complete(mount)


def test_a_writer_killed_after_its_child_has_closed(growing):
    mount, writer = growing
    pid, put = writer.call(fork_keeping)
    writer.agent.call(os.close, put)
    writer.agent.call(os.waitpid, pid, 0)
    assert mount.xattr("f", "state") == "growing"
    writer.agent.kill()
    check_aborted(mount)


def test_the_last_of_several_writers_decides(growing):
    mount, first = growing
    last = mount.open("f", os.O_WRONLY | os.O_APPEND)
    first.agent.kill()
    first.agent.wait()
    last.write(b"!")
    assert mount.xattr("f", "state") == "growing"
    last.close()
    check_complete(mount, data=b"hello!")


def socket_at(path):
    """A socket that nobody reads from: its descriptor."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    return sock.detach()


def send_to(fd, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        socket.send_fds(sock, [b"x"], [fd])


def kill_or_close(writer, kill):
    if kill:
        writer.agent.kill()
        writer.agent.wait()
    else:
        writer.close()


@pytest.mark.parametrize("killed", ["the first", "the second", "both", "nobody"])
def test_whose_close_is_handled_late_does_not_decide(growing, killed):
    """But who closed last: in a socket, a descriptor is like one that is closed, but not released."""
    mount, first = growing
    place = os.path.join(mount.run, "socket")
    keeper = mount.agent()
    kept = keeper.call(socket_at, place)
    first.call(send_to, place)
    kill_or_close(first, killed in ("the first", "both"))
    second = mount.writer("f", os.O_WRONLY | os.O_APPEND)
    second.write(b"!")
    kill_or_close(second, killed in ("the second", "both"))
    procs.wait_until(lambda: mount.xattr("f", "writers") == "1", "the second close to be handled")
    assert mount.xattr("f", "state") == "growing"
    keeper.call(os.close, kept)
    (check_complete if killed in ("the first", "nobody") else check_aborted)(mount, data=b"hello!")


def test_shells_end_files_properly(mount):
    def run(command):
        mount.popen(["bash", "-c", f"cd {mount.mnt} && {command}"]).wait(procs.seconds(10))

    run("(echo hello; false) > f")
    check_complete(mount, data=b"hello\n")
    run("echo a | tee g > h")
    check_complete(mount, "g", b"a\n")
    check_complete(mount, "h", b"a\n")
    run("(echo a; kill -9 $BASHPID) > k")
    check_aborted(mount, "k", b"a\n")
    run("(bash -c 'echo a; kill -9 $$'; echo b) > l")
    check_complete(mount, "l", b"a\nb\n")


def test_a_download_killed_midway(mount):
    source = mount.popen(["bash", "-c", "printf hello; exec sleep 60"], stdout=subprocess.PIPE)
    copy = mount.popen(["dd", f"of={mount.path('f')}", "bs=1k", "status=none"],
                       stdin=source.stdout)
    procs.wait_until(lambda: os.path.exists(mount.stored("f")) and
                     mount.stat("f").st_size == 5, "dd to have written")
    copy.kill()
    copy.wait(5)
    check_aborted(mount)


@pytest.mark.parametrize("value", [b"aborted", b"aborted the disk is on fire"])
def test_aborted_by_hand(growing, value):
    mount, writer = growing
    follower = mount.reader("f")
    follower.read()
    held = follower.begin_read().wait_held()
    assert set_state(mount, value) == 0
    assert held.errno() == errno.EIO
    check_aborted(mount)
    if b" " in value:
        assert "the disk is on fire" in mount.xattr("f", "reason")
    writer.close()
    check_aborted(mount)


def test_completed_by_hand(growing):
    mount, _ = growing
    follower = mount.reader("f")
    follower.read()
    held = follower.begin_read().wait_held()
    assert set_state(mount, b"complete") == 0
    assert held.result() == b""
    mount.wait_state("f", "complete")
    assert mount.reader("f").read_all() == b"hello"


def test_an_aborted_file_accepted_as_it_is(growing):
    mount, writer = growing
    writer.agent.kill()
    check_aborted(mount)
    assert set_state(mount, b"complete") == 0
    check_complete(mount)


def test_appending_properly_forgets_an_abort(growing):
    mount, writer = growing
    writer.agent.kill()
    check_aborted(mount)
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    mount.wait_state("f", "growing")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    again.write(b"!")
    assert held.result() == b"!"
    again.agent.kill()
    check_aborted(mount, data=b"hello!")
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    again.write(b"?")
    again.close()
    check_complete(mount, data=b"hello!?")


def test_starting_over_forgets_an_abort(growing):
    mount, writer = growing
    writer.agent.kill()
    check_aborted(mount)
    again = mount.open("f", os.O_WRONLY | os.O_TRUNC)
    mount.wait_state("f", "growing")
    again.write(b"afresh")
    reader = mount.reader("f")
    assert reader.read() == b"afresh"
    held = reader.begin_read().wait_held()
    again.close()
    assert held.result() == b""
    check_complete(mount, data=b"afresh")


def empty(path):
    """By one who cannot write it then."""
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def truncate(path):
    """By name, as truncate(2) of Perl and Python does."""
    os.truncate(path, 0)


without_writing = pytest.mark.parametrize("way", [empty, truncate])


@pytest.mark.parametrize("options", ["", "sync=complete"])
@pytest.mark.parametrize("declared", [False, True], ids=["", "declared"])
@without_writing
def test_emptied_by_a_reader_it_is_complete(mode, make_mount, options, declared, way):
    mount = make_mount(mode, options)
    writer = mount.writer("f")
    writer.write(b"hello")
    if declared:
        mount.declare("f", 100)
    follower = mount.reader("f")
    assert follower.read(5) == b"hello"
    writer.agent.kill()
    mount.wait_state("f", "aborted")
    mount.agent().call(way, mount.path("f"))
    check_complete(mount, data=b"")
    assert end_of(mount) == [b"complete", None, None, b"0", 0]
    assert follower.errno(os.read, 1) == errno.EIO, "it was cut"


@without_writing
def test_emptied_by_a_reader_it_grows_afresh(growing, way):
    """If somebody can still write it, who had no part in its end."""
    mount, writer = growing
    assert set_state(mount, b"aborted") == 0
    mount.agent().call(way, mount.path("f"))
    assert end_of(mount) == [b"growing", None, None, b"1", 0]
    writer.pwrite(b"again", 0)
    reader = mount.reader("f")
    assert reader.read() == b"again"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    check_complete(mount, data=b"again")


def test_who_empties_a_file_does_not_wait_for_its_first_byte(mount):
    """And then take that away."""
    writer = mount.writer("f")
    reader = mount.reader("f", os.O_TRUNC)
    held = reader.begin_read().wait_held()
    writer.write(b"hello")
    assert held.result() == b"hello"
    writer.close()
    check_complete(mount)


@pytest.fixture
def no_truncation(mode, make_mount):
    """A mount whose daemon gets EIO for ftruncate(2): opens with O_TRUNC fail when all else is done."""
    number = {"x86_64": "77", "aarch64": "46"}[os.uname().machine]
    return lambda options="": make_mount(
        mode, options, wrapper=(sys.executable, refuse.__file__, number, str(errno.EIO)))


def open_in_vain(mount):
    agent = mount.agent()
    assert agent.errno(os.open, mount.path("f"), os.O_WRONLY | os.O_TRUNC) == errno.EIO


def end_of(mount):
    return [mount.probe.call(getxattr_or_none, mount.path("f"), key) for key in
            ("state", "reason", "size", "writers")] + [mount.stat("f").st_size]


def getxattr_or_none(path, key):
    try:
        return os.getxattr(path, f"user.rww.{key}")
    except OSError as e:
        assert e.errno == errno.ENODATA
        return None


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "followed"])
def test_an_open_that_fails_leaves_an_aborted_file_as_it_was(no_truncation, watched):
    """Its reason, and the size that was declared, for those who come after a restart as well."""
    mount = no_truncation()
    writer = mount.writer("f")
    writer.write(b"hello")
    mount.declare("f", 100)
    writer.close()
    mount.wait_state("f", "aborted")
    before = end_of(mount), os.getxattr(mount.stored("f"), "user.rww.marker")
    assert before[0] == [b"aborted", b"closed with 5 of 100 declared bytes", b"100", b"0", 100]
    reader = mount.reader("f") if watched else None
    open_in_vain(mount)
    assert (end_of(mount), os.getxattr(mount.stored("f"), "user.rww.marker")) == before
    if reader:
        assert reader.read() == b"hello"
        assert reader.errno(os.read, 100) == errno.EIO


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("state", [b"aborted by me", b"complete"])
def test_an_open_that_fails_undoes_no_end_by_hand(no_truncation, state):
    """Whose writer has not gone: it is not the last one that closes."""
    mount = no_truncation()
    writer = mount.writer("f")
    writer.write(b"hello")
    assert set_state(mount, state) == 0
    before = end_of(mount)
    assert before[0] == state.split()[0] and before[3] == b"1"
    open_in_vain(mount)
    assert end_of(mount) == before


@pytest.mark.modes("on", "off")
def test_an_open_that_fails_does_not_make_it_linger(no_truncation):
    mount = no_truncation("linger=1000")
    with open(mount.stored("f"), "wb") as f:
        f.write(b"hello")
    open_in_vain(mount)
    assert mount.xattr("f", "state") == "complete"


def test_renamed_and_unlinked_files_end_too(growing):
    mount, writer = growing
    other = mount.writer("g")
    other.write(b"other")
    follower, gone = mount.reader("f"), mount.reader("g")
    follower.read()
    gone.read()
    mount.probe.call(os.rename, mount.path("f"), mount.path("f2"))
    mount.probe.call(os.unlink, mount.path("g"))
    held = [r.begin_read().wait_held() for r in (follower, gone)]
    for w in (writer, other):
        w.agent.kill()
    assert [h.errno() for h in held] == [errno.EIO] * 2
    check_aborted(mount, "f2")
    mount.probe.call(os.rename, mount.path("f2"), mount.path("f3"))
    check_aborted(mount, "f3")


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK])
def test_poll_tells_of_an_abort(growing, flags):
    mount, writer = growing
    reader = mount.reader("f", flags)
    reader.read()
    for _ in range(2):
        reader.call(poll, 0)
    pending = reader.begin(poll, 10)
    writer.agent.kill()
    assert pending.result() & select.POLLERR
    assert reader.call(poll, 10) & select.POLLERR


def poll(fd, timeout):
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    told = poller.poll(timeout * 1000)
    return told[0][1] if told else 0


@pytest.mark.options("aborted=deny")
def test_aborted_deny(growing):
    mount, writer = growing
    writer.agent.kill()
    mount.wait_state("f", "aborted")
    agent = mount.agent()
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_NONBLOCK):
        assert agent.errno(os.open, mount.path("f"), flags) == errno.EIO
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    again.write(b"!")
    again.close()
    check_complete(mount, data=b"hello!")


@pytest.mark.options("linger=1")
def test_a_logger_that_reopens_for_every_line(mount):
    path = mount.path("log")
    script = f"for i in $(seq 20); do echo line $i >> {path}; sleep 0.05; done"
    logger = mount.popen(["bash", "-c", script])
    procs.wait_until(lambda: os.path.exists(mount.stored("log")), "the log")
    cat = mount.popen(["cat", path], stdout=subprocess.PIPE)
    out, _ = cat.communicate(timeout=procs.seconds(10))
    assert logger.poll() == 0, "cat outlives the logger"
    assert out == b"".join(b"line %d\n" % i for i in range(1, 21))
    check_complete(mount, "log", out)


@pytest.mark.options("linger=1")
def test_linger_ends(growing):
    mount, writer = growing
    reader = mount.reader("f")
    reader.read()
    held = reader.begin_read().wait_held()
    started = time.monotonic()
    writer.close()
    assert held.result() == b""
    assert 0.9 <= time.monotonic() - started < procs.seconds(3)


def is_kept_open(mount, name):
    return any(target.startswith(mount.stored(name))
               for target in procs.descriptors(mount.pid).values())


@pytest.mark.options("linger=1000")
@pytest.mark.parametrize("state", [b"complete", b"aborted"])
def test_a_file_that_lingers_and_is_ended_by_hand_is_let_go(growing, state):
    """With its descriptor."""
    mount, writer = growing
    writer.close()
    procs.wait_until(lambda: mount.xattr("f", "writers") == "0", "the close to be handled")
    assert mount.xattr("f", "state") == "growing" and is_kept_open(mount, "f")
    assert set_state(mount, state) == 0
    assert mount.xattr("f", "state") == state.decode()
    procs.wait_until(lambda: not is_kept_open(mount, "f"), "its descriptor to be closed")


def move_another_over(path):
    with open(path + "2", "wb"):
        os.rename(path + "2", path)
        os.kill(os.getpid(), signal.SIGKILL)  # so that it does not linger


@pytest.mark.options("linger=1000")
@pytest.mark.parametrize("when", ["before the close", "after it"])
@pytest.mark.parametrize("remove", [os.unlink, move_another_over])
def test_a_deleted_file_does_not_linger(growing, remove, when):
    """Nobody can open it again, and its room is to be free."""
    mount, writer = growing
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    if when == "after it":
        writer.close()
        procs.wait_until(lambda: mount.xattr("f", "writers") == "0", "the close to be handled")
        assert mount.xattr("f", "state") == "growing"
    mount.agent().begin(remove, mount.path("f"))
    if when == "before the close":
        procs.wait_until(lambda: writer.stat().st_nlink == 0, "it to be deleted")
        held.stays_held()
        writer.close()
    assert held.result() == b""
    reader.close()
    procs.wait_until(lambda: not is_kept_open(mount, "f"), "its descriptor to be closed")


@pytest.mark.options("linger=1000")
def test_a_file_that_has_another_name_lingers(growing):
    mount, writer = growing
    mount.probe.call(os.link, mount.path("f"), mount.path("g"))
    writer.close()
    procs.wait_until(lambda: mount.xattr("f", "writers") == "0", "the close to be handled")
    mount.probe.call(os.unlink, mount.path("f"))
    assert mount.xattr("g", "state") == "growing"
    assert set_state(mount, b"complete", "g") == 0


def test_opened_untouched_leaves_no_trace(mount):
    mount.write_file("f", b"hello")
    before = os.stat(mount.stored("f"))
    mount.open("f", os.O_WRONLY).close()
    check_complete(mount)
    after = os.stat(mount.stored("f"))
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


@pytest.mark.parametrize("key, value, err", [
    ("state", b"growing", errno.EINVAL), ("state", b"dead", errno.EINVAL), ("state", b"", errno.EINVAL),
    ("state", b"abortedly", errno.EINVAL), ("state", b"complete\0", errno.EINVAL),
    ("edge", b"5", errno.EPERM), ("writers", b"0", errno.EPERM), ("readers", b"0", errno.EPERM)])
def test_bad_values_are_refused(growing, key, value, err):
    mount, writer = growing
    assert mount.probe.errno(os.setxattr, mount.path("f"), f"user.rww.{key}", value) == err
    assert mount.xattr("f", "state") == "growing"
    writer.close()
    check_complete(mount)


def test_a_reason_has_200_bytes_at_most(growing):
    mount, _ = growing
    assert set_state(mount, b"aborted " + b"x" * 201) == errno.EINVAL
    assert set_state(mount, b"aborted " + b"x" * 200) == 0
    assert mount.xattr("f", "reason") == "x" * 200


def test_directories_have_no_end(mount):
    mount.probe.call(os.mkdir, mount.path("d"))
    assert set_state(mount, b"aborted", "d") == errno.EOPNOTSUPP


@pytest.mark.modes("on", "off")
def test_only_who_may_write_ends_a_file(growing):
    mount, _ = growing
    other = mount.agent(uid=USER)
    for value in (b"aborted", b"complete"):
        assert set_state(mount, value, agent=other) in (errno.EACCES, errno.EPERM)
    assert mount.xattr("f", "state") == "growing"


EXECS = """
import os, sys
for i in range(200):
    f = open(sys.argv[1], "wb")  # close-on-exec
    f.write(b"hello"); f.flush()
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    os.waitpid(pid, 0)
    f.close()
"""


def test_a_writer_that_is_closed_by_exec(mount):
    """Its FLUSH comes from within execve(2), when /proc/PID/stat cannot be read."""
    program = mount.popen([sys.executable, "-c", EXECS, mount.path("f")])
    assert program.wait(procs.seconds(30)) == 0
    check_complete(mount)


def test_a_producer_killed_by_timeout(mount):
    """timeout -s KILL 1 ffmpeg: what it had written is there, and no end."""
    encode = ["ffmpeg", "-v", "quiet", "-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25",
              "-f", "mpegts", "-y", mount.path("f")]
    for seconds in ("1", "5", "25"):  # a slow machine may need more to begin
        program = mount.popen(["timeout", "-s", "KILL", seconds, *encode])
        assert program.wait(procs.seconds(60)) in (-signal.SIGKILL, 137, 124)  # 124: uutils
        if os.path.exists(mount.stored("f")):
            break
    mount.wait_state("f", "aborted")
    assert "killed by signal 9" in mount.xattr("f", "reason")


@pytest.mark.modes("on", "off")
def test_a_copy_into_a_full_store(make_mount, mode, tmp_path):
    """cp learns of ENOSPC at its write, and closes its file itself: no crash, so an end (README)."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(6 << 20))
    image = Image(str(tmp_path), "ext4", 4 << 20)
    try:
        mount = make_mount(mode, "", store=image.path)
        program = mount.popen(["cp", str(source), mount.path("f")], stderr=subprocess.PIPE)
        _, err = program.communicate(timeout=procs.seconds(20))
        assert program.returncode == 1 and b"No space left" in err
        mount.wait_state("f", "complete")
        mount.stop()
    finally:
        image.end()


# -- files whose inode flags forbid to write them (chattr(1)), which only the store knows

@pytest.fixture
def flagged(mount):
    """chattr(FLAG, name): until the end of the test. Such files take no marker either."""
    if os.geteuid() != 0:
        pytest.skip("chattr: needs root")
    mount.allow_log("the marker of .* cannot be removed")
    done = []

    def change(flag, name):
        subprocess.run(["chattr", "+" + flag, mount.stored(name)], check=True)
        done.append((flag, name))

    yield change
    for flag, name in done:
        subprocess.run(["chattr", "-" + flag, mount.stored(name)], check=True)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "while open"])
@pytest.mark.parametrize("flag, allowed", [("a", os.O_WRONLY | os.O_APPEND), ("i", None)])
def test_a_file_that_must_not_be_written_is_not(mount, flagged, shared, flag, allowed):
    mount.write_file("f", b"history")
    other = mount.writer("f", os.O_WRONLY | os.O_APPEND) if shared else None
    flagged(flag, "f")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                  os.O_WRONLY | os.O_APPEND | os.O_TRUNC):
        assert mount.agent().errno(os.open, mount.path("f"), flags) == errno.EPERM
    if allowed:
        writer = mount.open("f", allowed)
        writer.write(b", more")
        writer.close()
    else:
        assert mount.agent().errno(os.open, mount.path("f"), os.O_WRONLY | os.O_APPEND) == errno.EPERM
    assert mount.agent().errno(os.truncate, mount.path("f"), 3) == errno.EPERM
    if other:
        other.close()
    assert mount.stored_bytes("f") == (b"history, more" if allowed else b"history")


def test_an_aborted_file_is_not_completed_by_an_open_that_fails(mount, flagged):
    """O_TRUNC makes it begin anew, unless that is refused."""
    victim = mount.agent()
    mount.writer("f", agent=victim).write(b"half")
    victim.kill()
    mount.wait_state("f", "aborted")
    flagged("a", "f")
    assert mount.agent().errno(os.open, mount.path("f"), os.O_WRONLY | os.O_TRUNC) == errno.EPERM
    assert mount.xattr("f", "state") == "aborted"


def open_again(path, count):
    """How often a file just written can be opened through a descriptor, by several at once."""
    failed = 0
    for k in range(count):
        writer = os.open(f"{path}{k}", os.O_WRONLY | os.O_CREAT, 0o644)
        place = os.open(f"{path}{k}", os.O_PATH)
        os.write(writer, b"data")
        children = []
        for _ in range(3):
            children.append(os.fork())
            if not children[-1]:
                status = 1
                try:
                    os.close(os.open(f"/proc/self/fd/{place}", os.O_RDONLY))
                    status = 0
                finally:
                    os._exit(status)
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
        os.close(place)
        os.close(writer)
    return failed


def test_a_young_file_can_be_opened_by_its_descriptor(mount):
    """By more than one at a time, as "command /dev/stdin" does."""
    assert mount.agent().call(open_again, mount.path("f"), 50, timeout=60) == 0


def look(path, count):
    """What progress tells, without the edge of what grows."""
    told = set()
    for _ in range(count):
        try:
            words = os.getxattr(path, "user.rww.progress").decode().split()
            told.add(words[0] if words[0] == "growing" else " ".join(words[:2]))
        except OSError as e:
            told.add(errno.errorcode[e.errno])
    return told


def abort_again(path, count):
    for _ in range(count):
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o644)
        os.write(fd, bytes(1000))
        os.setxattr(path, "user.rww.state", b"aborted")
        os.close(fd)


def test_an_aborted_file_is_not_complete_while_it_is_opened(mount):
    """To whoever asks for progress by its name, as for a page of rww-httpd."""
    writer, path = mount.agent(), mount.path("f")
    writer.call(abort_again, path, 1)
    looks = mount.agent().begin(look, path, 5000)
    while not looks.done():
        writer.call(abort_again, path, 20)
    assert looks.result() - {"aborted 1000", "aborted 0", "growing", "EAGAIN"} == set()
