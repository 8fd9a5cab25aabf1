# SPDX-License-Identifier: MIT
"""Full disks, failing disks, and a daemon that runs out of descriptors or inotify watches."""
import errno
import fcntl
import mmap
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import tempfile

import pytest

from harness import procs, sandbox
from harness.agent import raw_read, write_file
from harness.data import BLOCK, fallocate, pattern
from harness.mount import NOBODY
from harness.tools import Image, need, run

pytestmark = [pytest.mark.sysfuse,
              pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")]

FEW = ("prlimit", "--nofile=64:64")


@pytest.fixture
def image(base, request):
    """image(fstype, size): a filesystem of its own for a store."""
    made = []

    def make(*args, **kwargs):
        made.append(Image(base, *args, **kwargs))
        request.getfixturevalue("make_mount")
        return made[-1]

    yield make
    for one in reversed(made):
        one.end()


def write_until_it_fails(fd, data):
    """Write data again and again: (bytes that went in, errno). A short write may not be the last."""
    done = 0
    while True:
        try:
            done += os.write(fd, data[done % len(data):])
        except OSError as e:
            return done, e.errno


def read_what_is_there(fd, size):
    got = b""
    while len(got) < size:
        part = os.read(fd, size - len(got))
        if not part:
            break
        got += part
    return got


# -- descriptors


def fill_tree(store, folders, files):
    for d in range(folders):
        os.mkdir(os.path.join(store, f"d{d:03}"))
        for f in range(files):
            fd = os.open(os.path.join(store, f"d{d:03}", f"f{f:03}"), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, b"%d %d\n" % (d, f) * (f % 7))
            os.close(fd)


@pytest.mark.sanitize
def test_ls_of_ten_thousand_files_with_64_descriptors(mode, make_mount):
    mount = make_mount(mode, start=False, wrapper=FEW)
    fill_tree(mount.store, 100, 100)
    run(["chmod", "-R", "a+rX", mount.store])
    mount.start()
    command = ["sh", "-c", "ls -lRn --time-style=full-iso && find . -type f | sort | xargs cat | sha256sum"]
    expected = run(command, cwd=mount.store)
    assert expected.count(b"\n") > 10_000
    got = mount.popen(["env", "-C", mount.mnt, *command], stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE)
    out, err = got.communicate(timeout=procs.seconds(60))
    assert got.returncode == 0 and not err
    assert out == expected


@pytest.mark.sanitize
def test_hard_links_that_go_do_not_pin_descriptors(mode, make_mount):
    """Without its name a file is found by its descriptor; one with other names need not be."""
    mount = make_mount(mode)
    for folder in ("A", "B"):
        os.mkdir(mount.stored(folder), 0o755)
        os.chmod(mount.stored(folder), 0o777)
    for i in range(1500):
        with open(mount.stored(f"A/{i}"), "w") as f:
            f.write(f"{i}\n")
        os.link(mount.stored(f"A/{i}"), mount.stored(f"B/{i}"))
    agent = mount.agent()
    for folder in ("A", "B"):
        agent.call(look_at_all, mount.path(folder), timeout=30)
    agent.call(shutil.rmtree, mount.path("B"), timeout=30)
    assert len(mount.leaked()) < 300
    assert agent.call(look_at_all, mount.path("A"), timeout=30) == [1] * 1500
    assert mount.reader("A/7").read_all() == b"7\n"


def look_at_all(folder):
    """The link counts."""
    return [e.stat(follow_symlinks=False).st_nlink for e in os.scandir(folder)]


def open_until_it_fails(folder, count):
    """Create and keep files: (descriptors, errno)."""
    kept = []
    try:
        for i in range(count):
            kept.append(os.open(os.path.join(folder, f"new{i}"), os.O_RDWR | os.O_CREAT, 0o644))
    except OSError as e:
        return kept, e.errno
    return kept, 0


@pytest.mark.sanitize
def test_out_of_descriptors(mode, make_mount):
    """Opens fail cleanly; what is open goes on with every byte right; all is well afterwards."""
    mount = make_mount(mode, wrapper=FEW)
    mount.allow_log(r"descriptor|open files|files open")
    writer = mount.writer("f")
    writer.write(b"hello")
    readers = [mount.reader("f") for _ in range(3)]
    for r in readers:
        assert r.read() == b"hello"
    held = readers[0].begin_read().wait_held()
    hog = mount.agent()
    kept, err = hog.call(open_until_it_fails, mount.mnt, 200)
    assert err in (errno.EMFILE, errno.ENFILE) and len(kept) > 10
    writer.write(b" world")
    assert held.result() == b" world"
    assert readers[1].read() == b" world"
    for fd in kept:
        hog.call(os.write, fd, b"%d" % fd)
    for fd in kept:
        assert hog.call(os.pread, fd, 100, 0) == b"%d" % fd
    held = readers[0].begin_read().wait_blocked("read")
    assert [line for line in mount.log().splitlines() if mount.allowed[0].search(line)]
    hog.end()
    writer.write(b"!")
    assert held.result() == b"!"
    fd = mount.probe.call(os.open, mount.path("again"), os.O_RDWR | os.O_CREAT, 0o644)
    mount.probe.call(os.close, fd)
    held = readers[0].begin_read().wait_held()
    writer.close()
    assert held.result() == b""


@pytest.mark.sanitize
@pytest.mark.parametrize("few", [20, 32, 64])
def test_a_killed_writer_is_told_without_descriptors_left(mode, make_mount, few):
    """/proc tells how it ended, and needs one."""
    mount = make_mount(mode, wrapper=("prlimit", f"--nofile={few}:{few}"))
    mount.allow_log(r"descriptor|open files|files open")
    victim = mount.agent()
    mount.writer("f", agent=victim).write(b"half")
    hog = mount.agent()
    _, err = hog.call(open_until_it_fails, mount.mnt, 200)
    assert err in (errno.EMFILE, errno.ENFILE)
    victim.kill()
    mount.wait_state("f", "aborted")


@pytest.mark.sanitize
def test_a_killed_writer_is_not_taken_for_another_when_nobody_can_be_asked(mode, make_mount):
    """Nor is one that closes."""
    mount = make_mount(mode)
    mount.allow_log(r"descriptor|open files|files open")
    killed, closed = mount.writer("f"), mount.writer("g")
    for writer in (killed, closed):
        writer.write(b"half")
    before = mount.probe.call(resource.prlimit, mount.pid, resource.RLIMIT_NOFILE)
    mount.probe.call(resource.prlimit, mount.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    killed.agent.kill()
    closed.close()
    mount.wait_state("f", "aborted")
    mount.wait_state("g", "complete")
    mount.probe.call(resource.prlimit, mount.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.sanitize
def test_killed_writers_are_told_when_large_answers_were_sent_without_descriptors_left(
        mode, make_mount):
    """They went through pipes, which took the descriptors that are kept for /proc."""
    mount = make_mount(mode, wrapper=FEW)
    mount.allow_log(r"descriptor|open files|files open")
    mib = 1 << 20
    mount.write_file("large", b"x" * (6 * mib))
    victims = [mount.agent() for _ in range(6)]
    for k, victim in enumerate(victims):
        mount.writer(f"f{k}", agent=victim).write(b"half")
    readers = [mount.reader("large") for _ in range(6)]
    hog = mount.agent()
    _, err = hog.call(open_until_it_fails, mount.mnt, 200)
    assert err in (errno.EMFILE, errno.ENFILE)
    for _ in range(10):  # by as many threads as can be had
        pending = [r.begin_pread(mib, k * mib) for k, r in enumerate(readers)]
        assert all(p.result() == b"x" * mib for p in pending)
    for victim in victims:
        victim.kill()
    hog.end()
    for k in range(len(victims)):
        mount.wait_state(f"f{k}", "aborted")


# -- inotify


def inject(calls, error):
    """Make these system calls of the daemon fail."""
    need("strace")
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
            "-e", f"inject={calls}:error={error}")


@pytest.mark.modes("on")
@pytest.mark.parametrize("error", ["ENOSPC", "ENOMEM"])
def test_out_of_inotify_watches(mode, make_mount, error):
    mount = make_mount(mode, wrapper=inject("inotify_add_watch", error))
    mount.allow_log(r"inotify|watch")
    writer = mount.writer("f")
    data = pattern(50_000)
    writer.write(data[:1000])
    reader = mount.reader("f")
    assert reader.read() == data[:1000]
    for offset in range(1000, 6000, 1000):
        held = reader.begin_read().wait_held()
        writer.write(data[offset:offset + 1000])
        assert held.result(5) == data[offset:offset + 1000]
    pending = reader.agent.begin(poll_in, reader.fd)
    pending.wait_blocked("poll", "ppoll")
    writer.write(b"!")
    assert pending.result(5)
    assert reader.read() == b"!"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result(5) == b""
    said = [line for line in mount.log().splitlines() if mount.allowed[0].search(line)]
    assert 1 <= len(said) <= 2, "said, but not for every read"


def poll_in(fd):
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return poller.poll(10_000)


def write_in_turns(fds, times):
    for k in range(times):
        os.write(fds[k % len(fds)], b".")


@pytest.mark.modes("on")
def test_an_overflow_of_inotify(mount):
    """Whoever waits for a file of which no event is heard any more is looked after."""
    mount.allow_log("inotify queue overflow")
    with open("/proc/sys/fs/inotify/max_queued_events") as f:
        times = int(f.read()) + 2
    agent = mount.agent()
    pairs = [begin_to_follow(mount, name, agent) for name in "abc"]
    held = [reader.begin_read().wait_held() for _, reader in pairs]
    procs.pause(mount.pid)
    agent.call(write_in_turns, [writer.fd for writer, _ in pairs[:2]], times)
    pairs[2][0].write(b"!")
    procs.kill(mount.pid, signal.SIGCONT)
    assert held[2].result() == b"!"
    for (writer, reader), first in zip(pairs[:2], held):
        got = first.result()
        got += reader.call(read_what_is_there, times // 2 - len(got))
        assert got == b"." * (times // 2)
    for writer, reader in pairs:
        held = reader.begin_read().wait_held()
        writer.write(b"more")
        assert held.result() == b"more"
        writer.close()
        assert reader.read() == b""
    assert len(said(mount, "inotify queue overflow")) == 1


def test_no_inotify_at_all(make_mount, base):
    """It may do without passthrough then, but must follow."""
    mount = make_mount("off", start=False, wrapper=inject("inotify_init1", "EMFILE"))
    mount.options = ["passthrough=auto"]
    mount.allow_log(r"inotify")
    mount.start()
    assert len(said(mount, "no inotify (Too many open files): looking every 20 ms")) == 1
    begin_to_follow(mount)


# -- the store's errors


@pytest.mark.modes("on", "off")
def test_a_full_disk(mode, image, make_mount):
    """ENOSPC reaches the writer at its write; readers keep what was written."""
    store = image("ext4", 8 << 20, mkfs=("-q", "-m", "0", "-O", "^has_journal"))
    mount = make_mount(mode, store=store.path)
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    size, err = writer.call(write_until_it_fails, pattern(100_000), timeout=60)
    assert err == errno.ENOSPC
    assert size > 1 << 20 and mount.stat("f").st_size == 5 + size
    got = held.result()
    got += reader.call(read_what_is_there, size - len(got))
    assert got == (pattern(100_000) * (size // 100_000 + 1))[:size]
    assert mount.xattr("f", "state") == "growing"
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    with open(os.path.join(store.path, "f"), "rb") as f:
        assert f.read() == b"hello" + got
    mount.stop()


def fill_up(store):
    with open(os.path.join(store.path, "fill"), "ab", buffering=0) as f:
        for size in (1 << 16, 4096, 512):
            write_until_it_fails(f.fileno(), bytes(size))


def cut_off(mount, name):
    """Write into what is there, and be killed."""
    writer = mount.open(name, os.O_WRONLY)
    writer.pwrite(b"x", 0)
    writer.agent.kill()
    mount.wait_state(name, "aborted")


@pytest.mark.modes("on", "off")
def test_a_full_disk_without_room_for_the_marker(mode, image, make_mount):
    """Who was cut off there, once or again, stays aborted, and it is said; nobody's open fails."""
    store = image("ext4", 8 << 20, mkfs=("-q", "-m", "0", "-I", "128", "-O", "^has_journal"))
    mount = make_mount(mode, store=store.path)
    mount.allow_log("marker")
    mount.write_file("f", b"hello")
    fill_up(store)
    for _ in range(3):
        cut_off(mount, "f")
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
        assert not os.listxattr(store.path + "/f")
        assert mount.xattr("f", "state") == "aborted"
    assert len(said(mount, "the store takes no marker (No space left")) == 1
    assert len(said(mount, "f is aborted, and the store takes no marker (No space left")) == 3
    os.unlink(store.path + "/fill")
    mount.write_file("f", b"hello")
    fill_up(store)
    mount.open("f", os.O_WRONLY).close()
    assert len(said(mount, "the store takes no marker (No space left")) == 2
    mount.stop()


def said(mount, what):
    return [line for line in mount.log().splitlines() if line.startswith(f"rwwfs: {what}")]


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_an_allocation_for_which_there_is_no_room(mode, image, make_mount, size):
    """ext4 has made the file as long as it could: nobody has written that."""
    store = image("ext4", 24 << 20, mkfs=("-q", "-m", "0"))
    os.chmod(store.path, 0o777)
    mount = make_mount(mode, store=store.path)
    writer = mount.writer("f")
    writer.write(pattern(10_000))
    reader = mount.reader("f")
    assert reader.read() == pattern(10_000)
    assert writer.errno(fallocate, 0, 0, 1 << 30) == errno.ENOSPC
    longer = os.stat(mount.stored("f")).st_size
    assert longer > 1 << 20 and mount.stat("f").st_size == longer
    held = reader.begin_read(size).wait_held()
    held.stays_held()
    assert int(mount.xattr("f", "edge")) == 10_000
    writer.write(pattern(30_000)[10_000:])
    got = held.result()
    writer.close()
    got += reader.read_all(30)
    assert got == pattern(30_000)[10_000:] + bytes(longer - 30_000)
    mount.stop()


@pytest.mark.modes("on", "off")
def test_a_disk_without_inodes(mode, image, make_mount):
    store = image("ext4", 8 << 20, mkfs=("-q", "-N", "16"))
    mount = make_mount(mode, store=store.path)
    kept, err = mount.agent().call(open_until_it_fails, mount.mnt, 100)
    assert err == errno.ENOSPC and kept
    assert mount.probe.errno(os.mkdir, mount.path("d")) == errno.ENOSPC
    mount.stop()


@pytest.mark.modes("on", "off")
def test_a_quota(mode, image, make_mount):
    """EDQUOT, on btrfs."""
    need("btrfs")
    store = image("btrfs", 128 << 20, mkfs=("-q",))
    sub = os.path.join(store.path, "sub")
    run(["btrfs", "quota", "enable", store.path])
    run(["btrfs", "subvolume", "create", sub])
    run(["btrfs", "qgroup", "limit", "4M", sub])
    mount = make_mount(mode, store=sub)
    mount.allow_log(r"marker.*quota")  # even removing an attribute needs space on btrfs
    writer = mount.writer("f")
    writer.write(b"hello")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    size, err = writer.call(write_until_it_fails, pattern(100_000), timeout=60)
    assert err == errno.EDQUOT
    got = held.result()
    got += reader.call(read_what_is_there, size - len(got))
    assert got == (pattern(100_000) * (size // 100_000 + 1))[:size]
    held = reader.begin_read().wait_held()
    writer.close()
    assert held.result() == b""
    mount.stop()


def fill(folder, size):
    """Files until there is no block left."""
    try:
        for i in range(1000):
            write_file(os.path.join(folder, f"{size}-{i}"), pattern(size))
    except OSError as e:
        return e.errno
    return 0


def link_until_it_fails(path, folder):
    """Long names, which want a block of their own sooner or later."""
    try:
        for i in range(1000):
            os.link(path, os.path.join(folder, f"{i:0200}"))
    except OSError as e:
        return e.errno
    return 0


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("inside", [False, True], ids=["the store", "a disk in the store"])
def test_what_is_reserved_for_root(mode, image, make_mount, inside):
    """Neither data nor names nor attributes of others get at it."""
    store = image("ext4", 16 << 20, mkfs=("-q", "-m", "40"))
    os.chmod(store.path, 0o777)
    mount = make_mount(mode, store=store.folder if inside else store.path)
    user, root = mount.agent(uid=NOBODY), mount.agent()
    disk = mount.path("fs") if inside else mount.mnt
    user.call(os.mkdir, os.path.join(disk, "links"))
    user.call(write_file, os.path.join(disk, "mine"), b"")
    attribute = os.path.join(disk, "mine"), "user.x", b"x" * 900
    assert user.call(fill, disk, 300_000) == errno.ENOSPC
    assert user.call(fill, disk, 1) == errno.ENOSPC
    assert user.errno(os.mkdir, os.path.join(disk, "d")) == errno.ENOSPC
    assert user.errno(os.symlink, "x" * 1000, os.path.join(disk, "s")) == errno.ENOSPC
    assert user.errno(os.setxattr, *attribute) == errno.ENOSPC
    links = os.path.join(disk, "links")
    assert user.call(link_until_it_fails, os.path.join(disk, "mine"), links) == errno.ENOSPC
    assert user.errno(os.rename, os.path.join(disk, "mine"), os.path.join(links, "x" * 200)) == errno.ENOSPC
    root.call(os.setxattr, *attribute)
    root.call(os.link, os.path.join(disk, "mine"), os.path.join(links, "x" * 200))
    root.call(os.mkdir, os.path.join(disk, "d"))
    root.call(os.symlink, "x" * 1000, os.path.join(disk, "s"))
    root.call(write_file, os.path.join(disk, "f"), pattern(300_000))
    mount.stop()


@pytest.mark.modes("on", "off", "user")
def test_a_daemon_with_a_file_size_limit(mode, make_mount):
    """It would be killed; with passthrough the kernel writes, and asks the writer's limit."""
    mount = make_mount(mode, wrapper=("prlimit", "--fsize=100000:100000"))
    writer = mount.writer("f")
    assert writer.call(os.write, pattern(100_000)) == 100_000
    assert writer.errno(os.ftruncate, 200_000) == errno.EFBIG
    assert writer.errno(os.write, b"x") == (0 if mount.passthrough else errno.EFBIG)
    reader = mount.reader("f")
    assert reader.read(100_000) == pattern(100_000)
    mount.stop()


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("mkfs", [("-b", "1024"), ("-O", "inline_data"),
                                  ("-b", "1024", "-O", "inline_data", "-I", "512")], ids=" ".join)
def test_how_ext4_tells_of_holes(mode, image, make_mount, mkfs):
    """In small blocks, or for a while not at all."""
    store = image("ext4", 64 << 20, mkfs=("-q", *mkfs))
    mount = make_mount(mode, store=store.path)
    begun, whole, longer, reserved = (mount.writer(name) for name in "abcd")
    begun.write(b"x" * 10)
    begun.pwrite(b"y" * 1000, 8192)
    whole.write(b"x" * 10)
    whole.write(b"y" * 4989 + b"\0")
    longer.truncate(1 << 20)
    longer.write(b"x" * 10)
    reserved.write(b"x" * 10)
    reserved.pwrite(b"y", 8192)
    reserved.call(fallocate, 0, 4096, 20_000)
    for name, expected in (("a", b"x" * 10), ("b", b"x" * 10 + b"y" * 4989 + b"\0"),
                           ("c", b"x" * 10), ("d", b"x" * 10)):
        assert mount.reader(name).read() == expected, name
    for writer in begun, whole, longer, reserved:
        writer.close()
    for name in "abcd":
        assert mount.reader(name).read_all() == mount.stored_bytes(name)


FIBMAP = 1
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820


def mode_after_chattr(folder, count):
    """Modes of set-id files whose project id and flags are set to what they are."""
    modes = set()
    for k in range(count):
        path = os.path.join(folder, str(k))
        write_file(path, b"")
        os.chmod(path, 0o6755)
        fd = os.open(path, os.O_RDWR)
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))
        modes.add(oct(os.fstat(fd).st_mode))
        os.close(fd)
    return modes


@pytest.mark.modes("on", "off")
def test_chattr_of_set_id_files(mode, image, make_mount):
    """On xfs it takes the bits, but not for root. There is room: then less is asked about callers."""
    store = image("xfs", 2 << 30, mkfs=("-q",))
    mount = make_mount(mode, store=store.path)
    for who in (None, NOBODY):
        seen = []
        for folder in (store.path, mount.mnt):
            folder = os.path.join(folder, f"{who}-{len(seen)}")
            os.mkdir(folder)
            os.chmod(folder, 0o777)
            seen.append(mount.agent(uid=who).call(mode_after_chattr, folder, 50))
        assert seen[0] == seen[1] and len(seen[0]) == 1, seen


@pytest.mark.modes("on", "off")
def test_a_disk_that_is_read_only(mode, image, make_mount):
    store = image("ext4", 8 << 20, mkfs=("-q",))
    mount = make_mount(mode, store=store.path)
    mount.write_file("f", b"hello")
    reader = mount.reader("f")
    assert reader.read(2) == b"he"
    run(["mount", "-o", "remount,ro", store.path])
    user = mount.agent()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
        assert user.errno(os.open, mount.path("f"), flags) == errno.EROFS
    assert user.errno(os.open, mount.path("new"), os.O_WRONLY | os.O_CREAT) == errno.EROFS
    assert user.errno(os.truncate, mount.path("f"), 0) == errno.EROFS
    assert user.errno(os.mkdir, mount.path("d")) == errno.EROFS
    assert user.errno(os.unlink, mount.path("f")) == errno.EROFS
    assert user.errno(os.chmod, mount.path("f"), 0o600) == errno.EROFS
    assert user.errno(os.setxattr, mount.path("f"), "user.x", b"") == errno.EROFS
    assert reader.read() == b"llo"
    assert mount.reader("f").read_all() == b"hello"
    mount.stop()


@pytest.mark.modes("on", "off")
def test_a_store_that_is_read_only_from_the_start(mode, base, make_mount):
    mount = make_mount(mode, start=False)
    with open(mount.stored("f"), "w") as f:
        f.write("hello")
    sandbox.bind(mount.store, mount.store)
    try:
        sandbox.mount("none", mount.store, None,
                      sandbox.MS_BIND | sandbox.MS_REMOUNT | sandbox.MS_RDONLY)
        mount.start()
        assert mount.reader("f").read_all() == b"hello"
        user = mount.agent()
        assert user.errno(os.open, mount.path("f"), os.O_WRONLY) == errno.EROFS
        assert user.errno(os.open, mount.path("g"), os.O_WRONLY | os.O_CREAT) == errno.EROFS
        mount.stop()
    finally:
        sandbox.umount(mount.store, sandbox.MNT_DETACH)


@pytest.mark.modes("on", "off")
def test_a_disk_that_fails(mode, image, make_mount):
    """EIO, on an xfs that is shut down: no hang, no false byte, no false end for what was held."""
    need("xfs_io")
    store = image("xfs", 320 << 20, mkfs=("-q",))
    mount = make_mount(mode, store=store.path)
    mount.allow_log(r"[Ii]nput/output error")
    writer = mount.writer("f")
    writer.write(pattern(10_000))
    reader = mount.reader("f")
    assert reader.read() == pattern(10_000)
    held = reader.begin_read().wait_held()
    run(["xfs_io", "-x", "-c", "shutdown", store.path])
    assert writer.errno(os.write, b"x" * 10_000) == errno.EIO
    writer.errno(os.close)
    try:
        assert held.result() == b""
    except OSError as e:
        assert e.errno == errno.EIO
    mount.stop()


def read_to_the_end(path, how):
    """(bytes, errno) that a reader gets; how: the size of its reads, or 0 for sendfile(2)."""
    with open(path, "rb", buffering=0) as f, tempfile.TemporaryFile() as to:
        try:
            while part := f.read(how) if how else os.sendfile(to.fileno(), f.fileno(), None, 1 << 20):
                if how:
                    to.write(part)
        except OSError as e:
            return to.tell(), e.errno
        return to.tell(), 0


@pytest.mark.modes("on", "off")
def test_a_disk_with_blocks_that_cannot_be_read(mode, image, make_mount):
    """A file on them does not seem to end there."""
    size, good = 8 << 20, (3 << 20) + 2 * BLOCK
    store = image("ext4", 32 << 20, mkfs=("-q", "-b", "4096", "-O", "^has_journal"))
    mount = make_mount(mode, store=store.path)
    with open(store.path + "/f", "wb", buffering=0) as f:
        fallocate(f.fileno(), 0, 0, size)
        f.write(pattern(size))
        os.fsync(f.fileno())
        start = struct.unpack("i", fcntl.ioctl(f.fileno(), FIBMAP, struct.pack("i", 0)))[0]
        end = struct.unpack("i", fcntl.ioctl(f.fileno(), FIBMAP, struct.pack("i", size // BLOCK - 1)))[0]
    assert end - start == size // BLOCK - 1, "it is in one piece"
    whole = os.stat(store.file).st_size
    os.truncate(store.file, start * BLOCK + good)
    try:
        for how in (4096, 20_000, 65536, 1 << 20, 0):
            for path in mount.stored("f"), mount.path("f"):
                with open("/proc/sys/vm/drop_caches", "w") as f:
                    f.write("3")
                got, error = mount.agent().call(read_to_the_end, path, how, timeout=30)
                assert error == errno.EIO and 1 << 20 < got <= good, (path, how)
                assert os.stat(path).st_size == size
    finally:
        os.truncate(store.file, whole)
    mount.stop()


@pytest.mark.modes("on", "off")
def test_a_killed_writer_is_told_by_a_daemon_without_memory(mode, make_mount, helper, tmp_path):
    gone = tmp_path / "gone"
    mount = make_mount(mode, wrapper=("env", f"LD_PRELOAD={helper('no_memory', '-shared', '-fPIC')}",
                                      f"NO_MEMORY={gone}"))
    writer = mount.writer("f")
    writer.write(b"hello")
    gone.touch()
    writer.agent.kill()
    writer.agent.wait()
    gone.unlink()
    mount.wait_state("f", "aborted")
    reader = mount.reader("f")
    assert reader.read() == b"hello"
    assert reader.errno(os.read, 100) == errno.EIO
    assert "killed by signal 9" in mount.xattr("f", "reason")


@pytest.mark.modes("on", "off")
def test_a_writer_killed_on_a_disk_that_failed(mode, image, make_mount):
    """Who waits for the end by poll(2) is told the truth, though the store tells nothing any more."""
    need("xfs_io")
    store = image("xfs", 320 << 20, mkfs=("-q",))
    mount = make_mount(mode, store=store.path)
    mount.allow_log("marker")
    writer = mount.writer("f")
    writer.write(pattern(10_000))
    reader = mount.reader("f")
    assert reader.read() == pattern(10_000)
    pending = reader.agent.begin(poll_in, reader.fd)
    pending.wait_blocked("poll", "ppoll")
    run(["xfs_io", "-x", "-c", "shutdown", store.path])
    writer.agent.kill()
    assert pending.result()[0][1] & (select.POLLERR | select.POLLHUP) == select.POLLERR
    assert reader.errno(os.read, 100) == errno.EIO
    mount.stop()


@pytest.mark.modes("off")
def test_a_store_with_huge_pages(mode, base, make_mount):
    """The store shows no gaps that are smaller than those, so they have to be known."""
    mount = make_mount(mode, start=False)
    sandbox.mount("none", mount.store, "tmpfs", 0, "huge=always,size=64m")
    try:
        mount.options = []  # as root, with passthrough where it can be had
        mount.start()
        assert not mount.passthrough
        writer = mount.writer("f")
        writer.write(b"x" * 10)
        writer.pwrite(b"y", 1 << 20)
        assert mount.reader("f").read() == b"x" * 10
        mount.stop()
    finally:
        sandbox.umount(mount.store, sandbox.MNT_DETACH)


@pytest.mark.modes("on", "off")
def test_a_store_without_times_of_birth(mode, image, make_mount):
    """A number that the store gave out again, unheard by the mount, is another file's."""
    store = image("ext4", 8 << 20, mkfs=("-q", "-I", "128"))
    mount = make_mount(mode, "attr_timeout=0,entry_timeout=0", store=store.path)
    mount.write_file("f", b"hello")
    assert mount.stat("f").st_ino == os.stat(mount.stored("f")).st_ino
    mount.abort("f")
    number = os.stat(mount.stored("f")).st_ino
    os.unlink(mount.stored("f"))
    for name in map(str, range(10)):
        write_file(mount.stored(name), b"another")
        if os.stat(mount.stored(name)).st_ino == number:
            break
    else:
        pytest.skip("ext4: did not give the number out again")
    assert mount.xattr(name, "state") == "complete"
    assert mount.reader(name).read_all() == b"another"
    mount.write_file(name, b"more")
    mount.probe.call(os.rename, mount.path(name), mount.path("g"))
    assert mount.reader("g").read_all() == b"more"
    mount.stop()


def state_of(path):
    """(state, declared size, size, bytes); user.rww.size is there."""
    with open(path, "rb") as f:
        return (os.getxattr(path, "user.rww.state"), os.getxattr(path, "user.rww.size"),
                os.stat(path).st_size, f.read(5))


@pytest.mark.modes("on", "off")
def test_a_store_without_direct_io(mode, base, make_mount):
    """An open with O_DIRECT fails as there, and before it has changed anything."""
    path = os.path.join(base, f"indirect-{mode}")
    os.mkdir(path)
    sandbox.mount("ramfs", path, "ramfs", 0, "mode=755")
    try:
        mount = make_mount(mode, store=path)
        mount.allow_log("marker")
        writer = mount.writer("f")
        writer.write(b"hello")
        mount.declare("f", 100)
        writer.close()
        mount.wait_state("f", "aborted")
        before = mount.probe.call(state_of, mount.path("f"))
        assert before == (b"aborted", b"100", 100, b"hello")
        mount.write_file("g", b"hello")
        for name in "f", "g":
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                for path_to in mount.stored, mount.path:
                    assert mount.probe.errno(os.open, path_to(name), flags | os.O_DIRECT) == errno.EINVAL
        assert mount.probe.call(state_of, mount.path("f")) == before
        assert mount.stored_bytes("g") == b"hello"
        new = os.O_WRONLY | os.O_CREAT | os.O_DIRECT
        assert mount.probe.errno(os.open, mount.stored("h"), new) == errno.EINVAL
        assert mount.probe.errno(os.open, mount.path("i"), new) == errno.EINVAL
        assert os.path.exists(mount.stored("h")) == os.path.exists(mount.stored("i"))
        mount.stop()
    finally:
        sandbox.umount(path, sandbox.MNT_DETACH)


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("disk", ["tmpfs huge=always", "xfs -b size=16k"])
def test_filesystems_in_the_store_that_show_fewer_gaps(mode, base, image, make_mount, disk):
    """Whether gaps can be seen is a question to the filesystem that a file is on."""
    kind, _, how = disk.partition(" ")
    if kind == "xfs":
        try:
            store = image(kind, 400 << 20, mkfs=("-q", *how.split()))
        except AssertionError:
            pytest.skip(f"{disk}: not to be mounted, blocks are larger than pages")
        mount, name = make_mount(mode, store=store.folder), "fs/f"
    else:
        mount, name = make_mount(mode), "d/f"
        os.mkdir(mount.stored("d"))
        sandbox.mount("none", mount.stored("d"), kind, 0, how + ",size=64m")
    try:
        writer = mount.writer(name)
        writer.write(b"x" * 10)
        writer.pwrite(b"y", 1 << 20)
        reader = mount.reader(name)
        assert reader.read() == b"x" * 10
        held = reader.begin_read().wait_held()
        writer.close()
        assert held.result().rstrip(b"\0y") == b""
        mount.stop()
    finally:
        if kind == "tmpfs":
            sandbox.umount(mount.stored("d"), sandbox.MNT_DETACH)


def begin_to_follow(mount, name="f", agent=None):
    """(writer, reader) of a file that was followed by then."""
    writer = mount.writer(name, agent=agent)
    writer.write(b"hello")
    reader = mount.reader(name)
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"
    return writer, reader


@pytest.fixture
def overlay(base):
    """An overlay filesystem, whose lower layer has a folder "store" with one in it."""
    layers = tempfile.mkdtemp(dir=base, prefix="overlay-")
    sandbox.mount("tmpfs", layers, "tmpfs", 0, "mode=755")
    for name in ("lower/store/folder", "upper", "work", "merged"):
        os.makedirs(os.path.join(layers, name))
    merged = os.path.join(layers, "merged")
    sandbox.mount("overlay", merged, "overlay", 0, f"lowerdir={layers}/lower,"
                  f"upperdir={layers}/upper,workdir={layers}/work")
    yield merged
    sandbox.umount(merged, sandbox.MNT_DETACH)
    sandbox.umount(layers, sandbox.MNT_DETACH)


@pytest.mark.modes("on")
def test_a_store_on_overlayfs(mode, overlay, make_mount):
    """Passthrough needs a stacking depth of two there; refused or not, it must follow."""
    writer, reader = begin_to_follow(make_mount(mode, store=overlay))
    held = reader.begin(raw_read, 100).wait_held()
    writer.close()
    assert held.result() == b""


@pytest.mark.modes("on")
def test_files_for_which_the_kernel_refuses_passthrough(mode, overlay, make_mount):
    """An overlay that is mounted in the store is one level too deep."""
    mount = make_mount(mode, store=os.path.dirname(overlay))
    mount.allow_log("refused passthrough")
    for name in ("merged/f", "merged/g", "f"):
        writer, reader = begin_to_follow(mount, name)
        writer.close()
        assert reader.read() == b""
    assert len(said(mount, "the kernel refused passthrough for a file")) == 1


@pytest.mark.modes("on", "off")
def test_a_store_that_an_overlay_has_from_a_lower_layer(mode, overlay, make_mount):
    """As in a container. A folder has another birth time once something was made in it."""
    mount = make_mount(mode, "attr_timeout=0,entry_timeout=0",
                       store=os.path.join(overlay, "store"))
    for name in ("f", "folder/f"):
        folder = os.path.dirname(mount.path(name))
        with open(mount.path(name), "xb") as f:
            f.write(b"hello")
        with open(mount.path(name), "rb") as f:
            assert f.read() == b"hello"
        assert "f" in os.listdir(folder)
        assert os.stat(folder).st_ino == os.stat(os.path.dirname(mount.stored(name))).st_ino


@pytest.fixture
def on_tmpfs(mode, base, make_mount):
    path = tempfile.mkdtemp(dir=base, prefix="tmpfs-")
    sandbox.mount("tmpfs", path, "tmpfs", 0, "mode=755")
    try:
        mount = make_mount(mode, store=path)
        yield mount
        mount.stop()
    finally:
        sandbox.umount(path, sandbox.MNT_DETACH)


@pytest.mark.modes("on", "off")
def test_a_store_on_tmpfs(on_tmpfs):
    writer, reader = begin_to_follow(on_tmpfs)
    writer.close()
    assert reader.read() == b""


def read_mapped(path, size):
    """As one who maps it from the store, or the writer itself with passthrough."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ) as m:
        return m[:]


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("how", ["ftruncate", "a write"])
def test_a_gap_on_tmpfs_that_was_read_through_a_mapping(on_tmpfs, how):
    """Which makes data of it for SEEK_DATA."""
    data = pattern(16 * BLOCK)
    writer = on_tmpfs.writer("f")
    writer.write(data[:BLOCK])
    reader = on_tmpfs.reader("f")
    assert reader.read() == data[:BLOCK]
    held = reader.begin_read().wait_held()
    if how == "ftruncate":
        writer.truncate(len(data))
    else:
        writer.pwrite(data[15 * BLOCK:], 15 * BLOCK)
    assert int(on_tmpfs.xattr("f", "edge")) == BLOCK
    stored = on_tmpfs.agent().call(read_mapped, on_tmpfs.stored("f"), len(data))
    assert stored[BLOCK:15 * BLOCK] == bytes(14 * BLOCK)
    assert int(on_tmpfs.xattr("f", "edge")) == BLOCK
    held.stays_held()
    writer.pwrite(data[BLOCK:], BLOCK)
    writer.close()
    assert held.result() + reader.read_all() == data[BLOCK:]
