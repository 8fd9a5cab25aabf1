# SPDX-License-Identifier: MIT
"""What the store remembers when the daemon dies."""
import errno
import json
import os
import random
import re
import signal
import sys
import time

import pytest

from harness import mount as mounts
from harness import procs, refuse, sandbox
from harness.agent import read_file, write_file
from harness.data import pattern
from harness.tools import Image, need, run

pytestmark = [pytest.mark.sysfuse]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")


def crash(mount):
    """The daemon and everybody on its mount die at once."""
    mount.kill(signal.SIGKILL)
    assert mount.wait() == -signal.SIGKILL
    mount.end_users()
    mounts.rescue(mount.mnt)


def bytes_and_end(fd, size):
    """Everything up to size, and how the file ends there."""
    got = b""
    while len(got) < size:
        part = os.read(fd, size - len(got))
        if not part:
            return got, "early end"
        got += part
    try:
        return got, "end" if os.read(fd, 100) == b"" else "more"
    except OSError as e:
        return got, errno.errorcode[e.errno]


def closes_a_duplicate(fd):
    os.close(os.dup(fd))


def how_it_reads(mount, name):
    size = mount.stat(name).st_size
    return mount.reader(name, agent=mount.probe).call(bytes_and_end, size)


def sizes_listed(path):
    """As ls -l shows them."""
    with os.scandir(path) as entries:
        return {e.name: e.stat().st_size for e in entries}


def test_a_growing_file_is_aborted_after_a_crash(mount, mode, make_mount):
    mount.write_file("complete", b"complete")
    growing = mount.writer("growing")
    growing.write(pattern(10_000))
    empty = mount.writer("empty")
    mount.write_file("again", b"hello")
    again = mount.open("again", os.O_WRONLY | os.O_APPEND)
    again.write(b"!")
    mount.write_file("untouched", b"hello")
    mount.open("untouched", os.O_RDWR)
    renamed = mount.writer("old")
    renamed.write(b"renamed")
    mount.probe.call(os.rename, mount.path("old"), mount.path("renamed"))
    declared = mount.writer("declared")
    declared.call(os.setxattr, "user.rww.size", b"100")
    declared.write(b"hello")
    assert empty.fd and again.fd
    crash(mount)
    second = make_mount(mode, store=mount.store)
    assert second.stat("declared").st_size == 100
    states = {n: second.xattr(n, "state") for n in os.listdir(second.store)}
    assert states.pop("untouched") in ("complete", "aborted")
    assert states == {"complete": "complete", "growing": "aborted", "empty": "aborted",
                      "again": "aborted", "renamed": "aborted", "declared": "aborted"}
    assert how_it_reads(second, "growing") == (pattern(10_000), "EIO")
    assert how_it_reads(second, "again") == (b"hello!", "EIO")
    assert how_it_reads(second, "complete") == (b"complete", "end")
    assert second.xattr("growing", "reason")
    fixed = second.open("growing", os.O_WRONLY | os.O_APPEND)
    fixed.write(b"end")
    fixed.close()
    second.wait_state("growing", "complete")
    second.end_users()
    second.unmount()
    assert second.wait() == 0
    third = make_mount(mode, store=mount.store)
    assert third.probe.call(sizes_listed, third.mnt)["declared"] == 100
    assert third.xattr("growing", "state") == "complete"
    assert third.xattr("again", "state") == "aborted"


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_kernels_and_containers_without_getxattrat(mode, make_mount, error):
    mount = make_mount(mode)
    mount.writer("f").write(b"hello")
    crash(mount)
    wrapper = (sys.executable, refuse.__file__, "464", str(error))
    second = make_mount(mode, store=mount.store, wrapper=wrapper)
    assert second.xattr("f", "state") == "aborted"


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("calls", [("464",), ("464", "193")], ids=["by name", "at all"])
def test_a_marker_that_cannot_be_read(mode, make_mount, calls):
    """getxattrat(2), and fgetxattr(2) of a descriptor."""
    mount = make_mount(mode)
    mount.writer("f").write(b"hello")
    crash(mount)
    wrapper = [x for call in calls
               for x in (sys.executable, refuse.__file__, call, str(errno.EIO))]
    second = make_mount(mode, store=mount.store, wrapper=wrapper)
    assert second.xattr("f", "state") == "aborted"
    assert how_it_reads(second, "f") == (b"hello", "EIO")
    again = second.open("f", os.O_WRONLY | os.O_APPEND)
    again.write(b"!")
    again.close()
    second.wait_state("f", "complete")
    assert how_it_reads(second, "f") == (b"hello!", "end")


def test_an_abort_survives_a_proper_unmount(mount, mode, make_mount):
    writer = mount.writer("f")
    writer.write(b"hello")
    writer.agent.kill()
    mount.wait_state("f", "aborted")
    mount.end_users()
    mount.unmount()
    assert mount.wait() == 0
    second = make_mount(mode, store=mount.store)
    assert how_it_reads(second, "f") == (b"hello", "EIO")


def states_afterwards(mount, mode, make_mount):
    """Of every file, once the daemon has ended, as the next mount of the store sees it."""
    assert mount.wait() == 0
    second = make_mount(mode, store=mount.store)
    return {name: second.xattr(name, "state") for name in os.listdir(second.store)}


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("how", ["umount", "umount -l", "SIGTERM"])
def test_a_close_that_the_daemon_has_not_heard_of(mode, make_mount, how):
    """close(2) does not wait for the RELEASE, which is dropped when the filesystem goes."""
    mount = make_mount(mode, "abort_on=never")  # nor for a FLUSH, then
    writers = [mount.writer(f"f{i}") for i in range(20)]
    for writer in writers:
        writer.write(b"hello")
    procs.pause(mount.pid)
    for writer in writers:
        writer.close()
    if how == "SIGTERM":
        os.kill(mount.pid, signal.SIGTERM)
    else:
        sandbox.umount(mount.mnt, sandbox.MNT_DETACH if how == "umount -l" else 0)
    os.kill(mount.pid, signal.SIGCONT)
    states = states_afterwards(mount, mode, make_mount)
    assert states == {f"f{i}": "complete" for i in range(20)}


def close_and_signal(fds, pid):
    for fd in fds:
        os.close(fd)
    os.kill(pid, signal.SIGTERM)


@needs_root
def test_a_close_just_before_sigterm(mode, make_mount):
    mount = make_mount(mode)
    open_one = mount.writer("growing")
    open_one.write(b"hello")
    producer = mount.agent()
    writers = [mount.writer(f"f{i}", agent=producer) for i in range(20)]
    for writer in writers:
        writer.write(b"hello")
    producer.call(close_and_signal, [writer.fd for writer in writers], mount.pid)
    states = states_afterwards(mount, mode, make_mount)
    assert states == {"growing": "aborted", **{f"f{i}": "complete" for i in range(20)}}


@needs_root
def test_killed_just_before_the_unmount(mode, make_mount):
    for _ in range(5):
        mount = make_mount(mode)
        writers = [mount.writer(f"f{i}", agent=mount.agent()) for i in range(4)]
        for writer in writers:
            writer.write(b"hello")
        sandbox.umount(mount.mnt, sandbox.MNT_DETACH)
        for writer in writers:
            writer.agent.kill()
        mount.end_users()
        states = states_afterwards(mount, mode, make_mount)
        assert states == {f"f{i}": "aborted" for i in range(4)}


@needs_root
def test_a_connection_cut_by_force(mount, mode, make_mount):
    """The kernel drops the requests, files stay open: nobody hears how they end."""
    writer = mount.writer("f")
    writer.call(closes_a_duplicate)  # as a shell does for "> f"
    writer.write(b"hello")
    procs.pause(mount.pid)
    with pytest.raises(OSError, match="busy"):
        sandbox.umount(mount.mnt, sandbox.MNT_FORCE)
    writer.agent.kill()
    mount.end_users()
    sandbox.umount(mount.mnt)
    os.kill(mount.pid, signal.SIGCONT)
    assert states_afterwards(mount, mode, make_mount) == {"f": "aborted"}


@needs_root
@pytest.mark.modes("on", "off")
def test_an_abort_is_not_forgotten_by_an_open_that_is_cut(mode, make_mount):
    """One for writing, under way when the connection is aborted by force."""
    need("strace")
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsetxattr",
            "-e", "inject=fsetxattr:delay_enter=1000000")
    mount = make_mount(mode, wrapper=slow)
    victim = mount.agent()
    mount.writer("f", agent=victim).write(b"hello")
    victim.kill()
    mount.wait_state("f", "aborted")
    opening = mount.agent().begin(os.open, mount.path("f"), os.O_WRONLY | os.O_APPEND)
    opening.wait_blocked("openat")
    mounts.abort(mount.connection)
    assert opening.errno() == errno.ECONNABORTED
    mount.end_users()
    sandbox.umount(mount.mnt)
    assert states_afterwards(mount, mode, make_mount) == {"f": "aborted"}


def produce_files(folder, seed):
    """Files opened, written, closed, until the mount is gone; each step is journalled before it."""
    rng = random.Random(seed)
    journal = os.open(os.path.join(folder, f"journal.{seed}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    mnt = os.path.join(folder, "mnt")
    for i in range(100_000):
        path = os.path.join(mnt, f"{seed}.{i}")
        os.write(journal, b"open %d\n" % i)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(journal, b"opened %d\n" % i)
        for _ in range(rng.randrange(4)):
            os.write(fd, b"x" * rng.randrange(1, 5000))
        os.write(journal, b"closing %d\n" % i)
        os.close(fd)
        if os.getxattr(path, "user.rww.state") == b"complete":
            os.write(journal, b"complete %d\n" % i)


@pytest.mark.modes("on", "off")
def test_killed_at_random_instants(mode, make_mount):
    """No file that was growing reads as complete, none that was complete as aborted."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    rng = random.Random(seed)
    for round_ in range(6):
        mount = make_mount(mode)
        for i in range(2):
            mount.agent().begin(produce_files, mount.base, rng.randrange(10**6) * 2 + i)
        time.sleep(rng.random() * 0.15 + 0.02)  # the random instant
        crash(mount)
        second = make_mount(mode, store=mount.store)
        told = {}
        for name in os.listdir(mount.base):
            if name.startswith("journal."):
                with open(os.path.join(mount.base, name)) as f:
                    for line in f:
                        step, number = line.split()
                        told[f"{name[8:]}.{number}"] = step
        assert told
        for name, step in told.items():
            if not os.path.exists(second.stored(name)):
                assert step == "open", f"round {round_}: {name} is gone"
                continue
            state = second.xattr(name, "state")
            if step == "complete":
                assert state == "complete", f"round {round_}: {name}"
            elif step == "opened":
                assert state == "aborted", f"round {round_}: {name} was growing"
        second.stop()


def check_known_when_the_kernel_has_forgotten(mount):
    """Of f, which is aborted and has no marker; afterwards nothing is kept for it."""
    for again in (False, True):
        if again:
            writer = mount.writer("f", os.O_WRONLY | os.O_APPEND)
            writer.agent.kill()
            mount.wait_state("f", "aborted")
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
        assert mount.xattr("f", "state") == "aborted"
        late = mount.reader("f")
        assert late.read() == b"hello"
        assert late.errno(os.read, 100) == errno.EIO
        late.close()
    mount.probe.call(os.unlink, mount.path("f"))
    nameless = mount.writer("g")
    mount.probe.call(os.unlink, mount.path("g"))
    nameless.write(b"hello")
    nameless.agent.kill()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2")
    procs.wait_until(lambda: not mount.leaked(), "the file that is gone to be let go of")
    procs.wait_until(lambda: not json.loads(mount.probe.call(
        read_file, mount.path(".rww/status")))["files"], "it to be forgotten")


@pytest.mark.modes("on", "off")
def test_a_store_without_user_xattrs(mode, base, make_mount):
    """Works, with one warning."""
    path = os.path.join(base, f"ramfs-{mode}")
    os.mkdir(path)
    sandbox.mount("ramfs", path, "ramfs", 0, "mode=755")
    try:
        mount = make_mount(mode, store=path)
        mount.allow_log(r"xattr|marker")
        for i in range(3):
            mount.write_file(f"f{i}", b"hello")
        writer = mount.writer("f")
        writer.write(b"hello")
        reader = mount.reader("f")
        assert reader.read() == b"hello"
        held = reader.begin_read().wait_held()
        writer.agent.kill()
        assert held.errno() == errno.EIO
        mount.wait_state("f", "aborted")
        assert len([x for x in mount.log().splitlines() if mount.allowed[0].search(x)]) == 1
        reader.close()
        check_known_when_the_kernel_has_forgotten(mount)
        mount.stop()
    finally:
        sandbox.umount(path, sandbox.MNT_DETACH)


@pytest.mark.modes("on", "off")
def test_power_loss(mode, base, make_mount):
    """sync=complete: snapshots of the disk, taken while it is mounted, tell the truth too."""
    disk = Image(base, "ext4", 24 << 20, mkfs=("-q",))
    snapshots = []
    try:
        mount = make_mount(mode, "sync=complete", store=disk.path)
        complete = {}
        for i in range(6):
            growing = mount.writer(f"growing{i}")
            growing.write(pattern(50_000 + i))
            run(["sync", "-f", disk.path]) if i % 2 else None
            mount.write_file(f"f{i}", pattern(30_000 + i))
            complete[f"f{i}"] = pattern(30_000 + i)
            snapshot = os.path.join(disk.folder, f"snapshot{i}")
            run(["cp", "--sparse=always", disk.file, snapshot])
            snapshots.append((snapshot, dict(complete), [f"growing{j}" for j in range(i + 1)]))
        mount.stop()
        for snapshot, ended, unended in snapshots:
            place = snapshot + ".fs"
            os.mkdir(place)
            run(["mount", "-t", "ext4", "-o", "loop", snapshot, place])
            after = make_mount(mode, store=place)
            for name, data in ended.items():
                assert how_it_reads(after, name) == (data, "end"), name
            for name in unended:
                if os.path.exists(os.path.join(place, name)):
                    assert after.xattr(name, "state") == "aborted"
            after.stop()
            sandbox.umount(place)
    finally:
        disk.end()


def test_behind_the_mounts_back(mount):
    """Files written in the store: no crash, no hang; a marker put there by hand is believed."""
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    with open(mount.stored("f"), "ab") as f:
        f.write(b" from behind")
    writer.call(os.lseek, 0, os.SEEK_END)
    writer.write(b"!")
    with open(mount.stored("g"), "wb") as f:
        f.write(b"x" * 100_000)
    os.chmod(mount.stored("g"), 0o644)
    os.truncate(mount.stored("f"), 3)
    os.unlink(mount.stored("f"))
    writer.close()
    assert mount.reader("g").read_all() == b"x" * 100_000
    mount.probe.call(write_file, mount.path("h"), b"ok")


@pytest.mark.options("attr_timeout=0")
@pytest.mark.parametrize("change", [lambda path: os.rename(path, path + ".1"), os.unlink])
def test_gone_behind_the_mounts_back(mount, change):
    """Who has a file open may go on, whatever becomes of its name in the store."""
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    change(mount.stored("f"))
    writer.write(b"!")
    assert reader.call(os.fstat).st_size == 6
    assert reader.call(os.getxattr, "user.rww.state") == b"growing"
    writer.call(os.setxattr, "user.x", b"1")
    writer.call(os.fchmod, 0o600)
    assert reader.read() == b"!"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    assert reader.call(os.fstat).st_mode & 0o777 == 0o600


@pytest.mark.modes("on", "off")
def test_no_scan_at_start_and_no_cost_per_write(mode, base, make_mount):
    """What the daemon asks of the store, as the kernel sees it."""
    need("strace")
    trace = os.path.join(base, f"trace-{mode}")
    mount = make_mount(mode, start=False, wrapper=(
        "strace", "-f", "-qq", "-y", "-o", trace,
        "-e", "trace=getdents64,fsetxattr,fremovexattr,fsync"))
    for i in range(100):
        os.mkdir(mount.stored(f"d{i}"))
        with open(mount.stored(f"d{i}/f"), "w") as f:
            f.write("hello")
    mount.start()
    writer = mount.writer("f")
    for _ in range(300):
        writer.write(b"hello")
    writer.close()
    mount.wait_state("f", "complete")
    mount.stop()
    with open(trace) as f:
        calls = [line.split()[1].split("(")[0] for line in f if mount.store in line]
    assert calls == ["fsetxattr", "fremovexattr"]


@pytest.mark.modes("off")
def test_a_synchronous_write_is_one_in_the_store(mode, base, make_mount):
    need("strace")
    trace = os.path.join(base, "trace-sync")
    mount = make_mount(mode, wrapper=("strace", "-f", "-qq", "-o", trace, "-e", "trace=pwritev2"))
    for flags in (os.O_SYNC, os.O_DSYNC, 0):
        writer = mount.writer("f", os.O_WRONLY | os.O_CREAT | flags)
        writer.write(b"hello")
        writer.close()
    mount.stop()
    with open(trace) as f:
        assert re.findall(r", (\w+)\) = 5$", f.read(), re.MULTILINE) == ["RWF_SYNC", "RWF_DSYNC", "0"]


def two_mounts(mode, make_mount, from_inside):
    """A file that grows through one of two mounts whose stores overlap: its writer, that mount, the
    other, and its name on each."""
    outer = make_mount(mode)
    outer.probe.call(os.mkdir, outer.path("d"))
    inner = make_mount(mode, store=outer.stored("d"))
    one, other = ((inner, "f"), (outer, "d/f"))[::1 if from_inside else -1]
    writer = one[0].writer(one[1])
    writer.write(b"hello")
    return writer, *one, *other


overlapping = pytest.mark.parametrize("from_inside", [True, False], ids=["inner", "outer"])


@overlapping
@pytest.mark.parametrize("asked", ["state", "open", "while open"])
def test_what_another_mount_completes_is_complete(mode, make_mount, from_inside, asked):
    """It was taken for aborted, for the marker that was found."""
    writer, one, name, other, other_name = two_mounts(mode, make_mount, from_inside)
    assert other.xattr(other_name, "state") == "aborted"
    assert how_it_reads(other, other_name) == (b"hello", "EIO")
    if asked == "while open":
        reader = other.reader(other_name)
        assert reader.read() == b"hello"
        assert reader.errno(os.read, 1) == errno.EIO
    writer.write(b", world")
    writer.close()
    one.wait_state(name, "complete")
    if asked == "open":
        assert other.reader(other_name).read_all() == b"hello, world"
    assert other.xattr(other_name, "state") == "complete"
    if asked == "while open":
        assert reader.read() == b", world"
        assert reader.read() == b""
    assert other.reader(other_name).read_all() == b"hello, world"
    assert other.stat(other_name).st_size == 12


@overlapping
@pytest.mark.modes("on")
def test_a_size_that_another_mount_does_not_promise_any_more(mode, make_mount, from_inside):
    _, one, name, other, other_name = two_mounts(mode, make_mount, from_inside)
    one.probe.call(os.setxattr, one.path(name), "user.rww.size", b"100")
    assert other.stat(other_name).st_size == 100
    one.probe.call(os.setxattr, one.path(name), "user.rww.state", b"complete")
    reader = other.reader(other_name)
    assert reader.call(os.fstat).st_size == 5
    assert reader.read_all() == b"hello"


@overlapping
def test_what_another_mount_aborts_stays_aborted(mode, make_mount, from_inside):
    writer, one, name, other, other_name = two_mounts(mode, make_mount, from_inside)
    assert other.xattr(other_name, "state") == "aborted"
    writer.agent.kill()
    one.wait_state(name, "aborted")
    assert other.xattr(other_name, "state") == "aborted"
    assert how_it_reads(other, other_name) == (b"hello", "EIO")
    one.probe.call(os.setxattr, one.path(name), "user.rww.state", b"complete")
    assert other.xattr(other_name, "state") == "complete"
    assert how_it_reads(other, other_name) == (b"hello", "end")
