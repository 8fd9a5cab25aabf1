# SPDX-License-Identifier: MIT
"""The store's disk takes its time for an fsync, or fails it: nobody waits who need not, the end is true."""
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import threading
import time

import pytest

from harness import procs
from harness.agent import write_file
from harness.data import BLOCK, fallocate, pattern
from harness.mount import BUILD, is_sanitized
from harness.tools import Image, limited_threads

# What is preloaded would have to come after the sanitizers' own library.
pytestmark = [pytest.mark.sysfuse, pytest.mark.modes("on", "off"),
              pytest.mark.skipif(is_sanitized(), reason="LD_PRELOAD: not in sanitizer builds")]

syncing = pytest.mark.parametrize("options", ["sync=complete", "sync=complete,linger=0.01"])


class Disk:
    """mount's fsyncs, of files that have their marker ("data") or have none ("marker"), markers that
    are set ("setting") and removed ("removal"), truncations ("size"), reads ("read"), writes
    ("write"), and bytes that are sent to the disk ("writeout")."""

    def __init__(self, folder):
        self.folder = folder
        self.mount = None
        for which in ("data", "marker", "setting", "removal", "size", "read", "write",
                      "writeout"):
            self.set(which, "")

    def set(self, which, content):
        with open(os.path.join(self.folder, which), "w") as f:
            f.write(content)

    @contextlib.contextmanager
    def stalled(self, which="data"):
        with open(os.path.join(self.folder, which)) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def writeouts(self):
        """How many there were."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(os.path.join(self.folder, "writeouts")).st_size
        return 0

    def in_call(self, name):
        """How many threads of the mount are blocked in it."""
        calls = [procs.syscall(self.mount.pid, tid)
                 for tid in os.listdir(f"/proc/{self.mount.pid}/task")]
        return sum(call is not None and call[0] == procs.SYSCALLS[name] for call in calls)

    def wait_waiting(self, count=1):
        procs.wait_until(lambda: self.in_call("flock") == count, f"{count} fsyncs to wait")


@pytest.fixture
def disk(base, tmp_path):
    os.chmod(tmp_path, 0o755)
    return Disk(str(tmp_path))


@pytest.fixture
def start(disk, helper, make_mount, mode):
    def make(options="sync=complete", **kwargs):
        preload = helper("slow_disk", "-shared", "-fPIC")
        disk.mount = make_mount(mode, options, wrapper=(
            "env", f"LD_PRELOAD={preload}", f"SLOW_DISK={disk.folder}"), **kwargs)
        return disk.mount
    return make


def fsync_in_threads(paths):
    """Each file is written and synced by a thread of its own; what their calls came to."""
    results = []

    def sync(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x")
        os.fsync(fd)
        results.append(path)
        os.close(fd)
    threads = [threading.Thread(target=sync, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(results)


def check_alive(mount, name):
    """A file grows, its reader follows it; another is killed."""
    writer, other = mount.writer(name), mount.agent()
    writer.write(b"one")
    reader = mount.reader(name)
    assert reader.read() == b"one"
    held = reader.begin_read().wait_held()
    dying = mount.reader(name, agent=other)
    dying.read()
    dying.begin_read().wait_held()
    other.kill()
    assert other.wait() == -signal.SIGKILL
    writer.write(b"two")
    assert held.result() == b"two"
    return writer, reader


def begin(mount):
    """A growing file, and a reader that has read what there is."""
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    return writer, reader


@syncing
def test_nobody_waits_with_a_completion(start, disk, options):
    mount = start(options)
    writer, reader = begin(mount)
    other = mount.agent()
    dying = mount.reader("f", agent=other)
    dying.read()
    with disk.stalled():
        writer.close()
        disk.wait_waiting()
        held = reader.begin_read().wait_held()
        dying.begin_read().wait_held()
        other.kill()
        assert other.wait() == -signal.SIGKILL
        check_alive(mount, "g")
        assert mount.reader("f").read() == b"hello"
        again = mount.writer("f", os.O_WRONLY | os.O_APPEND)
        again.write(b" again")
        assert held.result() == b" again"
        assert mount.xattr("f", "state") == "growing"
    disk.wait_waiting(0)
    held = reader.begin_read().stays_held()
    assert mount.xattr("f", "state") == "growing", "it was closed once, but has a writer now"
    again.close()
    assert held.result() == b""
    mount.wait_state("f", "complete")


@syncing
def test_many_completions_at_once(start, disk, options):
    mount = start(options)
    writers = [mount.writer(f"f{i}", agent=mount.probe) for i in range(100)]
    for writer in writers:
        writer.write(b"x")
    with disk.stalled():
        for writer in writers:
            writer.close()
        procs.wait_until(lambda: disk.in_call("flock"), "an fsync to wait")
        check_alive(mount, "g")
    for i in range(100):
        mount.wait_state(f"f{i}", "complete")


def test_written_again_while_the_marker_goes(start, disk, make_mount, mode):
    """The disk is slow to take the removal of the marker; who writes then is remembered."""
    mount = start()
    writer = mount.writer("f")
    writer.write(b"hello")
    mount.declare("f", 11)
    writer.write(b" hello")
    with disk.stalled("marker"):
        writer.close()
        disk.wait_waiting()
        assert "user.rww.marker" not in os.listxattr(mount.stored("f"))
        assert mount.xattr("f", "state") == "growing"
        again = mount.writer("f", os.O_WRONLY | os.O_APPEND)
        assert b" 11 " in os.getxattr(mount.stored("f"), "user.rww.marker")
    disk.wait_waiting(0)
    assert mount.xattr("f", "state") == "growing"
    again.write(b"!")
    mount.destroy()
    after = make_mount(mode, store=mount.store)
    assert after.xattr("f", "state") == "aborted"


@pytest.mark.parametrize("which", ["data", "marker"])
def test_killed_while_the_disk_is_waited_for(start, disk, make_mount, mode, which):
    mount = start()
    writer = mount.writer("f")
    writer.write(b"hello")
    with disk.stalled(which):
        writer.close()
        disk.wait_waiting()
        mount.destroy()
    after = make_mount(mode, store=mount.store)
    assert after.xattr("f", "state") == ("aborted" if which == "data" else "complete")


@syncing
def test_told_to_stop_while_the_disk_is_waited_for(start, disk, make_mount, mode, options):
    """The readers go at once; what was closed is complete."""
    mount = start(options)
    writer, reader = begin(mount)
    held = reader.begin_read().wait_held()
    with disk.stalled():
        writer.close()
        disk.wait_waiting()
        os.kill(mount.pid, signal.SIGTERM)
        assert held.errno() == errno.ENOTCONN
        procs.wait_until(lambda: not os.path.ismount(mount.mnt), "the mount to go")
        assert procs.alive(mount.pid)
    assert mount.wait() == 0
    mount.end_users()
    after = make_mount(mode, store=mount.store)
    assert after.xattr("f", "state") == "complete"


def test_told_to_stop_while_a_marker_is_removed(start, disk, make_mount, mode):
    """The daemon, which looks through the open files at its end, meets one that is about to go."""
    mount = start("linger=0.01")
    with disk.stalled("removal"):
        mount.writer("f").close()
        disk.wait_waiting()
        os.kill(mount.pid, signal.SIGTERM)
        procs.wait_until(lambda: not os.path.ismount(mount.mnt), "the mount to go")
        procs.wait_until(lambda: procs.blocked_in(mount.pid, "futex"), "the main thread to wait")
    assert mount.wait() == 0
    mount.end_users()
    after = make_mount(mode, store=mount.store)
    assert after.xattr("f", "state") == "complete"


def test_many_processes_in_fsync(start, disk):
    mount = start("sync=none")
    agent = mount.agent()
    paths = [mount.path(f"f{i}") for i in range(48)]
    with disk.stalled():
        pending = agent.begin(fsync_in_threads, paths)
        disk.wait_waiting(len(paths))
        check_alive(mount, "g")
    assert pending.result() == sorted(paths)


def test_bytes_that_do_not_reach_the_disk(start, disk):
    mount = start()
    mount.allow_log("fsync of a file that is complete: Input/output error")
    writer, reader = begin(mount)
    held = reader.begin_read().wait_held()
    disk.set("data", "fails")
    writer.close()
    assert held.errno() == errno.EIO
    mount.wait_state("f", "aborted")
    disk.set("data", "")
    mount.write_file("f", b"again")


def test_an_fsync_of_the_writer_that_failed(start, disk):
    """The kernel tells of lost bytes once: it told the writer, who went on."""
    mount = start()
    mount.allow_log("fsync of a file that is complete: Input/output error")
    writer, reader = begin(mount)
    disk.set("data", "fails")
    assert writer.errno(os.fsync) == errno.EIO
    disk.set("data", "")
    writer.close()
    assert reader.begin_read().errno() == errno.EIO
    mount.wait_state("f", "aborted")
    mount.write_file("f", b"again")


def test_complete_by_hand(start, disk):
    mount = start()
    mount.allow_log("fsync of a file that is complete: Input/output error")
    writer, reader = begin(mount)
    hand = mount.agent()
    disk.set("data", "fails")
    complete = os.setxattr, mount.path("f"), "user.rww.state", b"complete"
    assert hand.errno(*complete) == errno.EIO
    assert mount.xattr("f", "state") == "growing"
    disk.set("data", "")
    with disk.stalled():
        pending = hand.begin(*complete)
        disk.wait_waiting()
        held = reader.begin_read().wait_held()
        check_alive(mount, "g")
    assert pending.result() is None
    assert held.result() == b""


@pytest.mark.parametrize("error", ["", "EIO"])
def test_nobody_waits_with_a_truncation(start, disk, error):
    """Nor do readers of that file, if they are killed; one of them waits in a hole, which is looked at."""
    mount = start("")
    mount.allow_log("error")
    writer, reader = begin(mount)
    writer.truncate(1 << 20)
    held = reader.begin_read().wait_held()
    dying = mount.reader("f", agent=mount.agent())
    disk.set("size", error)
    with disk.stalled("size"):
        cut = writer.begin(os.ftruncate, 3)
        disk.wait_waiting()
        check_alive(mount, "g")
        beginning = dying.begin_pread(5, 0).wait_held()
        dying.agent.kill()
        assert dying.agent.wait() == -signal.SIGKILL
        late = mount.reader("f", agent=mount.agent())
        beginning = late.begin_pread(2, 0).wait_held()
    assert beginning.result() == b"he"
    assert cut.errno() == (errno.EIO if error else 0)
    if error:
        writer.pwrite(b"more", 5)
        assert held.result() == b"more"
    else:
        assert held.errno() == errno.EIO
    disk.set("size", "")
    writer.close()


def test_a_server_does_not_wait_with_a_truncation(start, disk, serve):
    """Its other clients are served meanwhile; who follows that file is told the truth afterwards,
    and who comes to it meanwhile follows it."""
    mount = start("")
    writer, _ = begin(mount)
    mount.write_file("g", b"unrelated")
    promising = mount.writer("h")
    promising.write(b"hello")
    mount.declare("h", 1000)
    web = serve(mount.mnt, "--threads=1")
    follower = web.connect().begin("/f").response()
    assert follower.at_least(5) == b"hello"
    web.wait_held(1)
    with disk.stalled("size"):
        cut = writer.begin(os.ftruncate, 3)
        cut_too = promising.begin(os.ftruncate, 3)
        disk.wait_waiting(2)
        late = [x.connect().begin("/f").response() for x in (web, serve(mount.mnt, "--threads=1"))]
        assert [x.status for x in late] == [200, 200]
        assert web.get("/g") == b"unrelated"
        entries = json.loads(web.get("/", Accept="application/json"))["entries"]
        assert [(e["name"], e["state"]) for e in entries] == [
            ("f", "growing"), ("g", "complete"), ("h", "growing")]
        assert (entries[2]["size"], entries[2]["declared"]) == (0, 1000)
        with pytest.raises(BlockingIOError):
            os.getxattr(mount.path("f"), "user.rww.progress")
        web.wait_held(2)
    assert cut.result() is cut_too.result() is None
    follower.cut()
    late[0].cut()  # it shared what was known of the file before
    writer.pwrite(b"p", 3)
    writer.close()
    assert late[1].rest() == b"help"


@pytest.mark.parametrize("length, headers", [
    (None, {}), (None, {"Range": "bytes=0-12582911"}), (12 << 20, {}), (12 << 20, {"version": "1.0"})])
def test_a_server_does_not_end_well_what_it_cannot_ask_about(start, disk, serve, length, headers):
    """A file is rewritten and then cut again, which the disk takes its time for; the server is stopped
    meanwhile, with half of the former file sent."""
    mount = start("")
    before, after = b"a" * (12 << 20), b"b" * (12 << 20)
    writer = mount.writer("f")
    if length:
        mount.declare("f", length)
    writer.write(before)
    web = serve(mount.mnt)
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    response = client.request("/f", **headers)
    got = len(response.at_least(100))
    if not length and not headers:
        other = web.request("/f")
        writer.close()
        assert other.rest() == before
        writer = mount.writer("f", os.O_WRONLY)
    procs.pause(web.pid)
    writer.truncate(0)
    writer.pwrite(after, 0)
    with disk.stalled("size"):
        cut = writer.begin(os.ftruncate, 3)
        disk.wait_waiting()
        os.kill(web.pid, signal.SIGCONT)
        assert b"b" in response.at_least(len(before) - 65536 - got)
        assert web.request("/", Accept="application/json").status == 200
    assert cut.result() is None
    response.cut()


@pytest.mark.modes("on")
def test_a_server_cuts_nothing_while_it_cannot_ask(start, disk, serve):
    """Of a complete file, the end of whose body waits until that it was not rewritten can be told."""
    mount, data = start(""), b"a" * (32 << 20)
    mount.write_file("f", data)
    web = serve(mount.mnt)
    client = web.connect()
    response = client.request("/f")
    writer = mount.open("f", os.O_WRONLY | os.O_APPEND)
    writer.write(b"more")
    with disk.stalled("size"):
        changing = writer.begin(os.ftruncate, len(data) + 1)
        disk.wait_waiting()
        assert response.exactly(len(data) - 1) == data[:-1]
        procs.wait_until(lambda: not client.is_quiet() or procs.blocked_in(web.pid, "fgetxattr"),
                         "the look")
        assert client.is_quiet()
    assert response.rest() == data[-1:] and changing.result() is None


@pytest.mark.parametrize("which, flags, content", [
    ("size", os.O_TRUNC, b" more"), ("setting", os.O_APPEND, b"hello more"), ("removal", 0, b"hello")])
def test_a_server_does_not_wait_for_an_open(start, disk, serve, which, flags, content):
    """Who asks for a file that is about to be empty, to grow or to end is answered once it is, and
    keeps nobody else waiting: not even one thread's other clients."""
    mount = start("")
    for name in ("f", "g"):
        mount.write_file(name, b"hello")
    os.mkdir(mount.path("d"))
    os.symlink("../f", mount.path("d/index.html"))
    web = serve(mount.mnt, "--threads=1")
    web.allow_log("GET /f: Resource temporarily unavailable")
    agent = mount.agent()
    if which == "removal":
        last = mount.writer("f", os.O_WRONLY)
    with disk.stalled(which):
        if which == "removal":
            last.close()
        else:
            opening = agent.begin(os.open, mount.path("f"), os.O_WRONLY | flags)
        disk.wait_waiting()
        late = [web.connect().begin(target) for target in ("/f", "/f?live", "/d/")]
        view, gone = web.connect().begin("/f?view"), web.connect().begin("/f")
        assert web.get("/g") == b"hello"
        assert web.request("/f", Prefer="wait=0").status == 503
        assert web.get("/g") == b"hello"
        entry, = json.loads(web.get("/d/", Accept="application/json"))["entries"]
        assert (entry["name"], entry["state"]) == ("index.html", "growing")
        gone.close()
        web.wait_metric("clients_gone_total", 1)
        assert all(client.is_quiet() for client in [*late, view])
    assert view.response().status == 200
    if which != "removal":
        fd = opening.result()
        agent.call(os.write, fd, b" more")
        agent.call(os.close, fd)
    assert [client.response().rest() for client in late] == [content] * 3


def test_nobody_waits_with_a_marker(start, disk):
    """Nor do those who open that file, if they are killed."""
    mount = start("")
    for name in ("f", "g"):
        mount.write_file(name, b"hello")
    dying, late = mount.agent(), mount.agent()
    with disk.stalled("setting"):
        opening = mount.agent().begin(os.open, mount.path("f"), os.O_WRONLY)
        disk.wait_waiting()
        dying.begin(os.open, mount.path("f"), os.O_RDONLY)
        begun = late.begin(os.open, mount.path("f"), os.O_RDONLY)
        procs.wait_until(lambda: mount.waiting() == 3, "three opens to wait")
        dying.kill()
        assert dying.wait() == -signal.SIGKILL
        with open(mount.path("g"), "rb") as f:
            assert f.read() == b"hello"
    assert opening.result() >= 0
    assert late.call(os.read, begun.result(), 100) == b"hello"


@pytest.mark.modes("off")
def test_a_gap_that_is_filled_while_it_is_read(start, disk):
    """What was read of it was read before, though nothing is known of a gap any more."""
    mount = start("")
    data = b"x" * 1500 + b"y" * 1000
    writer = mount.writer("f")
    writer.pwrite(data[:500], 0)
    writer.pwrite(data[1500:], 1500)
    reader = mount.reader("f")
    with disk.stalled("read"):
        reading = reader.begin_pread(4000, 0)
        disk.wait_waiting()
        writer.pwrite(data[500:1500], 500)
    assert reading.result() == data


def test_a_gap_that_is_left_while_the_end_is_read(start, disk):
    """The file was complete when the read began, and grows again when it looks at the size."""
    mount = start("")
    writer, reader = begin(mount)
    writer.close()
    mount.wait_state("f", "complete")
    with disk.stalled("read"):
        pending = reader.begin_read(1000)
        disk.wait_waiting()
        again = mount.open("f", os.O_WRONLY)
        again.pwrite(b"far", 100_000)
    pending.wait_held()
    again.pwrite(b"next", 5)
    assert pending.result() == b"next"


@pytest.mark.modes("off")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_waits_with_a_page_that_is_read(start, disk, end):
    """Who writes to it does, as no page may stay as it was. Who reads elsewhere can be killed, and
    so can the mount: it is not waiting in the kernel, where it would keep its readers."""
    mount = start("")
    mount.write_file("cached", b"hello")
    page = mount.reader("cached")
    _, held = begin(mount)
    killed = mount.agent()
    dying = mount.reader("f", agent=killed)
    dying.read()
    dying.begin_read().wait_held()
    reading = held.begin_read().wait_held()
    writer = mount.writer("cached", os.O_WRONLY | os.O_APPEND, mount.agent())
    with disk.stalled("read"):
        with disk.stalled("write"):
            writing = writer.begin(os.write, b" more")
            disk.wait_waiting()
            paging = page.begin_pread(100, 0)
            disk.wait_waiting(2)
        disk.wait_waiting()
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        os.kill(mount.pid, end)
        gone = errno.ENOTCONN, errno.ECONNABORTED
        assert reading.errno() in gone
        if end == signal.SIGKILL:
            assert writing.errno() in gone and paging.errno() in gone
            mount.destroy()
            return
    assert writing.result() == 5
    assert paging.result() in (b"hello", b"hello more")
    assert mount.wait() == 0
    mount.end_users()


def test_rwwctl_waits_for_an_end_that_is_on_its_way(start, disk):
    """It sees the file grow, and opens it when it has ended."""
    mount = start("")
    writer, _ = begin(mount)
    with disk.stalled("removal"):
        writer.close()
        disk.wait_waiting()
        waiting = mount.popen([os.path.join(BUILD, "fs", "rwwctl"), "wait", mount.path("f")])
        procs.wait_until(lambda: procs.blocked_in(waiting.pid, "openat"), "rwwctl to open it")
    assert waiting.wait(procs.seconds(10)) == 0


def test_bytes_that_were_lost_are_told_to_each(start, disk):
    """As by the store: once to every descriptor that was open then, whoever syncs first."""
    mount = start("sync=none")
    writer, reader = begin(mount)
    other, idle = mount.open("f", os.O_RDWR), mount.open("f", os.O_WRONLY)
    disk.set("data", "fails")
    assert reader.errno(os.fsync) == errno.EIO
    disk.set("data", "")
    assert mount.open("f", os.O_WRONLY).errno(os.fsync) == 0
    for f in writer, other, idle:
        assert f.errno(os.fdatasync) == errno.EIO
    for f in reader, writer, other, idle:
        assert f.errno(os.fsync) == 0


def marker_lines(mount):
    return [line for line in mount.log().splitlines() if "cannot be removed" in line]


def test_a_marker_that_cannot_be_removed(start, disk, make_mount, mode):
    """It is said once, and not believed; it goes when the store lets it."""
    mount = start("sync=none")
    mount.allow_log("the marker of [fg], which is complete, cannot be removed")
    disk.set("removal", "fails")
    for _ in range(5):
        mount.write_file("f", b"hello")
        mount.write_file("g", b"hello")
    assert [line.split()[4] for line in marker_lines(mount)] == ["f,", "g,"]
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2")
    assert mount.xattr("f", "state") == "complete"
    assert mount.reader("f").read_all() == b"hello"
    mount.probe.call(os.rename, mount.path("g"), mount.path("h"))
    disk.set("removal", "")
    for name in "ab":
        mount.write_file(name, b"hello")
    for name in "fh":
        procs.wait_until(lambda: not os.listxattr(mount.stored(name)), "the marker to be removed")
    mount.end_users()
    mount.unmount()
    assert mount.wait() == 0
    after = make_mount(mode, store=mount.store)
    for name in "fhab":
        assert after.xattr(name, "state") == "complete"


def test_a_marker_that_can_be_removed_in_the_end(start, disk, make_mount, mode):
    mount = start("sync=none")
    mount.allow_log("the marker of [fgh], which is complete, cannot be removed")
    disk.set("removal", "fails")
    for name in "fgh":
        mount.write_file(name, b"hello")
    mount.probe.call(os.unlink, mount.path("g"))
    procs.wait_until(lambda: not deleted(mount.pid), "the file that is gone to be let go of")
    writer = mount.writer("h")
    writer.write(b"half")
    writer.agent.kill()
    mount.wait_state("h", "aborted")
    disk.set("removal", "")
    mount.end_users()
    mount.unmount()
    assert mount.wait() == 0
    after = make_mount(mode, store=mount.store)
    assert after.xattr("f", "state") == "complete"
    assert after.xattr("h", "state") == "aborted"


def deleted(pid):
    """Its descriptors of files without a name."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return [path for path in found if path.endswith(" (deleted)")]


def switches(pid):
    """How many times its threads have begun or ceased to run."""
    found = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as f:
            found += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
    return found


def does_nothing(pid):
    before = switches(pid)
    time.sleep(0.1)
    return switches(pid) == before


def test_while_a_request_is_stuck_nothing_is_done(start, disk):
    mount = start("sync=none")
    writer, other = mount.agent(), mount.agent()
    with disk.stalled("setting"):
        pending = writer.begin(write_file, mount.path("f"), b"hello")
        disk.wait_waiting()
        procs.wait_until(lambda: does_nothing(mount.pid), "it to rest")
        other.call(os.statvfs, mount.mnt)
        procs.wait_until(lambda: does_nothing(mount.pid), "it to rest")
    pending.result()


def test_threads_that_cannot_be_had(start, disk):
    """It is said once, not each time that all there are have something to do."""
    mount = start("sync=none")
    mount.allow_log("no thread to be had")
    count = procs.threads(mount.pid)
    agents = [mount.agent() for _ in range(count)]
    with limited_threads(mount.pid, count):
        for k in range(count):
            mount.write_file(str(k), b"hello")
        for _ in range(3):
            with disk.stalled("setting"):
                pending = [agent.begin(write_file, mount.path(str(k)), b"again")
                           for k, agent in enumerate(agents)]
                others = 5 if mount.passthrough else 4  # which do not serve
                procs.wait_until(
                    lambda: disk.in_call("flock") == procs.threads(mount.pid) - others,
                    "all threads to wait")
            for one in pending:
                one.result()
        said = [line for line in mount.log().splitlines() if mount.allowed[0].search(line)]
        assert len(said) == 1
        check_alive(mount, "g")
        mount.stop()


@pytest.fixture
def reserving(base):
    """A store that reserves space behind what is written."""
    store = Image(base, "xfs", 320 << 20, options="allocsize=1m", mkfs=("-q",))
    yield store.path
    store.end()


@pytest.mark.modes("on")
@pytest.mark.parametrize("fails", [False, True])
def test_zeros_that_wait_for_the_disk_keep_nobody(start, disk, reserving, fails):
    mount = start("", store=reserving)
    writer, other = mount.writer("f"), mount.agent()
    writer.write(pattern(BLOCK))
    writer.call(os.fsync)
    reader = mount.reader("f")
    assert reader.read() == pattern(BLOCK)
    with disk.stalled("writeout"):
        writer.write(bytes(BLOCK))
        held = reader.begin_read().wait_held()
        disk.wait_waiting()
        dying = mount.reader("f", agent=other)
        assert dying.read() == pattern(BLOCK)
        dying.begin_read().wait_held()
        other.kill()
        assert other.wait() == -signal.SIGKILL
        check_alive(mount, "g")
        disk.set("writeout", "error" if fails else "")
    if fails:
        held.stays_held()
        before = disk.writeouts()
        held.stays_held()
        assert disk.writeouts() < before + 100, "it is not tried all the time"
        writer.close()
    assert held.result() == bytes(BLOCK)
    mount.stop()


@pytest.mark.modes("on")
def test_what_is_written_behind_a_gap_is_not_sent_to_the_disk(start, disk, reserving):
    """Nor when it grows all the time: only zeros where somebody waits are."""
    mount = start("", store=reserving)
    writer = mount.writer("f")
    writer.call(fallocate, 0, 0, 64 * BLOCK)
    writer.call(os.fsync)
    held = mount.reader("f").begin_read().wait_held()
    for block in range(32, 64):
        writer.pwrite(pattern(BLOCK), block * BLOCK)
    held.stays_held()
    assert disk.writeouts() == 0
    writer.pwrite(pattern(BLOCK), 0)
    assert held.result() == pattern(BLOCK)
    mount.stop()
