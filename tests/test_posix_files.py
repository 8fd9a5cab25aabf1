# SPDX-License-Identifier: MIT
"""Contents, locks and mappings: on the mount as on the store's own filesystem."""
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess

import pytest

from harness import procs
from harness.agent import handle_signal
from harness.data import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate, pattern
from harness.sidebyside import OTHER, USER, Pair, look, outcome, touch
from harness.tools import need, sha256

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]


@pytest.fixture
def pair(mount):
    return Pair(mount)


def linkat_descriptor(fd, path, flags=0x400):
    libc = ctypes.CDLL(None, use_errno=True)
    source = b"/proc/self/fd/%d" % fd if flags == 0x400 else b""
    if libc.linkat(-100 if source else fd, source, -100, os.fsencode(path), flags) != 0:
        raise OSError(ctypes.get_errno(), "linkat")


def unnamed(d):
    seen = []
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"hello")
    seen += [os.pread(fd, 100, 0), os.fstat(fd).st_nlink, os.listdir(d)]
    seen += [outcome(linkat_descriptor, fd, f"{d}/named"), look(f"{d}/named"),
             outcome(linkat_descriptor, fd, f"{d}/named")]
    os.write(fd, b" world")
    os.close(fd)
    seen.append(open(f"{d}/named").read())
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    seen.append(outcome(linkat_descriptor, fd, f"{d}/never"))
    os.close(fd)
    return seen + sorted(os.listdir(d))


def made_with_set_ids(d):
    """What is just made has nothing to truncate, so no set-id bits to lose."""
    seen = {}
    for flags in (os.O_WRONLY, os.O_RDWR | os.O_EXCL, os.O_RDONLY):
        for mode in (0o6755, 0o4711, 0o2755):
            name = f"{d}/{flags:o}-{mode:o}"
            fd = os.open(name, flags | os.O_CREAT | os.O_TRUNC, mode)
            seen[flags, mode] = oct(os.fstat(fd).st_mode), look(name)
            os.close(fd)
            seen[flags, mode, "closed"] = look(name)
    return seen


def test_making_and_truncating_at_once(pair):
    for who in [None] if pair.mount.mode == "user" else [None, {"uid": USER, "gid": USER}]:
        pair.compare(made_with_set_ids, who=who)


@pytest.mark.tmpfile
def test_unnamed_files(pair):
    pair.compare(unnamed)


def unlinked(d):
    seen = []
    touch(f"{d}/f", data=b"hello")
    fd = os.open(f"{d}/f", os.O_RDWR)
    other = os.open(f"{d}/f", os.O_RDONLY)
    os.unlink(f"{d}/f")
    os.pwrite(fd, b"HELLO world", 0)
    seen += [os.pread(other, 100, 0), os.fstat(fd).st_nlink, os.fstat(fd).st_size]
    os.ftruncate(fd, 3)
    os.fchmod(fd, 0o400)
    os.utime(fd, ns=(1, 2))
    st = os.fstat(fd)
    seen += [os.pread(other, 100, 0), oct(st.st_mode), st.st_mtime_ns, outcome(os.fsync, fd),
             outcome(linkat_descriptor, fd, f"{d}/back"), outcome(fallocate, fd, 0, 0, 8192),
             os.fstat(other).st_size]
    touch(f"{d}/f", data=b"a new one")
    seen += [os.pread(other, 3, 0), open(f"{d}/f").read()]
    os.close(fd)
    os.close(other)
    return seen


def test_open_files_survive_their_names(pair):
    pair.compare(unlinked)


def contents(d):
    """Sizes, offsets, appends and the errors of reads and writes."""
    path = f"{d}/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    seen = [os.write(fd, pattern(10_000)), os.lseek(fd, 0, os.SEEK_CUR), os.read(fd, 10)]
    seen += [os.pwrite(fd, b"xyz", 20_000), os.fstat(fd).st_size, os.pread(fd, 6, 19_998),
             sha256(os.pread(fd, 50_000, 0))]
    seen += [os.lseek(fd, -5, os.SEEK_END), os.read(fd, 100), outcome(os.lseek, fd, -1, os.SEEK_SET)]
    dup = os.dup(fd)
    seen += [os.lseek(fd, 7, os.SEEK_SET), os.read(dup, 3), os.lseek(fd, 0, os.SEEK_CUR)]
    app = os.open(path, os.O_WRONLY | os.O_APPEND)
    seen += [os.write(app, b"end"), os.lseek(app, 0, os.SEEK_SET), os.write(app, b"END"),
             os.pread(fd, 100, 20_000), outcome(os.read, app, 1)]
    seen += [os.writev(fd, [b"a", b"", b"bcd"]), os.pread(fd, 10, 5)]
    ro = os.open(path, os.O_RDONLY)
    seen += [outcome(os.write, ro, b"x"), outcome(os.ftruncate, ro, 0), outcome(os.read, app, 1),
             outcome(os.pread, fd, 10, 1 << 40), outcome(os.pread, ro, 10, -1)]
    for size in (5, 5000, 4096, 0, 100_000, 1 << 33):
        os.ftruncate(fd, size)
        seen += [os.fstat(ro).st_size, os.stat(path).st_size, os.pread(fd, 20, max(0, size - 10)),
                 sha256(os.pread(fd, 200_000, 0))]
    seen += [outcome(os.truncate, path, -1), outcome(os.truncate, d, 0), outcome(os.ftruncate, fd, -1),
             outcome(os.truncate, f"{d}/none", 0), outcome(os.pwrite, fd, b"x", 1 << 62),
             outcome(os.truncate, path, 1 << 62), outcome(os.pwrite, fd, b"", 1 << 40)]
    os.ftruncate(fd, 0)
    big = pattern(1 << 20) * 9
    seen += [os.write(fd, big) if os.lseek(fd, 0, 0) == 0 else 0, sha256(os.pread(fd, len(big), 0))]
    for f in (fd, dup, app):
        os.close(f)
    seen += [outcome(os.pread, ro, 10, 1 << 40), sha256(os.pread(ro, len(big), 0))]
    os.close(ro)
    return [*seen, look(path)]


def test_contents(pair):
    pair.compare(contents)


def syncs(d):
    fd = os.open(f"{d}/f", os.O_RDWR | os.O_CREAT | os.O_SYNC, 0o644)
    folder = os.open(d, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    seen = [os.write(fd, b"x" * 5000), outcome(os.fsync, fd), outcome(os.fdatasync, fd),
            outcome(os.fsync, folder), libc.syncfs(fd),
            libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 7),
            outcome(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)]
    ro = os.open(f"{d}/f", os.O_RDONLY)
    return seen + [outcome(os.fsync, ro), outcome(os.fsync, os.open(f"{d}/f", os.O_WRONLY))]


def test_syncs(pair):
    pair.compare(syncs)


def allocation(d):
    """fallocate(2) in the modes that FUSE knows, and what SEEK_HOLE and SEEK_DATA say afterwards."""
    seen = []
    fd = os.open(f"{d}/f", os.O_RDWR | os.O_CREAT, 0o644)

    def tell():
        os.fsync(fd)  # what ext4 calls a hole depends on what it has written
        st = os.fstat(fd)
        # and in allocated space on what is cached, as long as no other test drops that
        punched = any(said == (PUNCH_HOLE | KEEP_SIZE, "ok") for said in seen)
        offsets = (0, 5000, 10_000, 1 << 20) if punched else () if seen else (0, 70_000)
        holes = [outcome(os.lseek, fd, o, w) for o in offsets
                 for w in (os.SEEK_HOLE, os.SEEK_DATA)]
        seen.extend([st.st_size, sha256(os.pread(fd, 1 << 21, 0)), holes])

    os.write(fd, pattern(65_536))
    tell()
    for mode, offset, length in ((0, 60_000, 40_000), (KEEP_SIZE, 0, 200_000),
                                 (PUNCH_HOLE | KEEP_SIZE, 8192, 8192),
                                 (PUNCH_HOLE | KEEP_SIZE, 100, 50), (ZERO_RANGE, 30_000, 10_000),
                                 (ZERO_RANGE | KEEP_SIZE, 95_000, 50_000), (PUNCH_HOLE, 0, 10),
                                 (0, 0, 0), (0, -1, 10), (KEEP_SIZE, 0, 1 << 62)):
        seen.append((mode, outcome(fallocate, fd, mode, offset, length)))
        tell()
    os.ftruncate(fd, 1 << 20)
    tell()
    os.close(fd)
    fd = os.open(f"{d}/f", os.O_RDONLY)
    procs.wait_until(lambda: outcome(os.getxattr, fd, "user.rww.state") != b"growing",
                     "the close to be heard")  # until then nothing is called a hole
    tell()
    seen.append(outcome(fallocate, fd, 0, 0, 10))
    os.close(fd)
    return seen


def test_allocation(pair):
    pair.compare(allocation)


def direct(d):
    fd = os.open(f"{d}/f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    buf = mmap.mmap(-1, 65_536)
    buf[:] = pattern(65_536)
    seen = [os.writev(fd, [buf]), os.lseek(fd, 0, 0)]
    other = mmap.mmap(-1, 32_768)
    seen += [os.readv(fd, [other]), other[:] == buf[:32_768], os.preadv(fd, [other], 32_768),
             other[:] == buf[32_768:], os.preadv(fd, [other], 65_536)]
    plain = os.open(f"{d}/f", os.O_RDWR)
    os.pwrite(plain, b"X" * 4096, 4096)
    seen += [os.preadv(fd, [other], 0), other[4090:4100], sha256(os.pread(plain, 1 << 20, 0))]
    os.close(fd)
    os.close(plain)
    return seen


def test_direct(pair):
    pair.compare(direct)


def direct_but_for_the_end(d):
    """What dd with oflag=direct does with a last block that is not aligned."""
    seen = []
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        path = f"{d}/f{flags}"
        fd = os.open(path, flags | os.O_CREAT | os.O_DIRECT, 0o644)
        with mmap.mmap(-1, 8192) as buf:
            buf[:] = pattern(8192)
            seen.append(os.writev(fd, [buf]))
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)
        seen += [outcome(os.write, fd, b"the rest"), outcome(os.pread, fd, 5, 8190)]
        os.close(fd)
        with open(path, "rb") as f:
            seen.append(sha256(f.read()))
    return seen


def test_direct_but_for_the_end(pair):
    pair.compare(direct_but_for_the_end)


FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NODUMP_FL = 0x80086601, 0x40086602, 0x40
FS_IOC_GETVERSION = 0x80087601


def inode_flags(d):
    """lsattr(1) and chattr(1) of files that are being written, by whoever, and have no name."""
    def all_flags(fd):
        return struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4])[0]

    def flags(fd):
        return all_flags(fd) & FS_NODUMP_FL

    def clear(fd):  # that one alone: ext4 would rather not be without extents
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("ii", all_flags(fd) & ~FS_NODUMP_FL, 0))

    seen = []
    for data in (b"", b"some"):
        path = f"{d}/f{len(data)}"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(writer, data)
        seen.append(subprocess.run(["chattr", "+d", path]).returncode)
        seen.append(outcome(flags, writer))
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.unlink(path)
        seen += [outcome(flags, fd) for fd in (writer, reader)]
        seen.append(outcome(clear, reader))
        seen.append(outcome(flags, writer))
        os.close(writer)
        os.close(reader)
    return seen


def test_inode_flags_of_growing_files(pair):
    need("chattr")
    pair.compare(inode_flags)


def time_of_inode_flags(d):
    """To set them changes the ctime, which stat shows at once."""
    path, clock = f"{d}/f", f"{d}/clock"
    for name in (path, clock):
        touch(name, os.O_WRONLY | os.O_CREAT)
    fd = os.open(path, os.O_RDONLY)
    before = os.fstat(fd).st_ctime_ns
    while os.stat(clock).st_ctime_ns <= before:  # the store's clock ticks
        os.utime(clock)
    flags = fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, flags)
    seen = [os.fstat(fd).st_ctime_ns > before, os.stat(path).st_ctime_ns > before]
    os.close(fd)
    return seen


def test_inode_flags_change_the_ctime(pair):
    pair.compare(time_of_inode_flags)


def inode_version(path):
    fd = os.open(path, os.O_RDONLY)
    version = outcome(fcntl.ioctl, fd, FS_IOC_GETVERSION, bytes(8))
    os.close(fd)
    return version


@pytest.mark.modes("off")
def test_inode_version_is_the_stores(mount):
    mount.write_file("f", b"x")
    versions = {mount.probe.call(inode_version, path) for path in (mount.path("f"), mount.stored("f"))}
    assert len(versions) == 1 and b"" not in versions


def own_inode_flags(d):
    fd = os.open(f"{d}/f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"some")
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))
    os.close(fd)
    return ["asked"]


@pytest.mark.options("hold=open")
def test_a_writer_that_asks_for_flags_does_not_wait_for_itself(pair):
    pair.compare(own_inode_flags, timeout=5)


def mappings(d):
    """Stores into a shared mapping are seen by read(2), and writes by the mapping."""
    path = f"{d}/f"
    touch(path, data=pattern(20_000))
    seen = []
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 20_000, mmap.MAP_SHARED) as m:
        m[5000:5005] = b"HELLO"
        m.flush()
        other = os.open(path, os.O_RDWR)
        seen += [os.pread(fd, 5, 5000), os.pread(other, 5, 5000)]
        os.close(other)
        os.pwrite(fd, b"WORLD", 10_000)
        seen.append(m[10_000:10_005])
        with mmap.mmap(fd, 20_000, mmap.MAP_SHARED, mmap.PROT_READ) as r:
            m[1:3] = b"ab"
            seen.append(r[:4])
    with mmap.mmap(fd, 20_000, mmap.MAP_PRIVATE) as m:
        m[0:3] = b"xyz"
        seen += [m[:5], os.pread(fd, 5, 0)]
    ro = os.open(path, os.O_RDONLY)
    seen.append(outcome(mmap.mmap, ro, 100, mmap.MAP_SHARED, mmap.PROT_WRITE))
    for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        with mmap.mmap(ro, 20_000, kind, mmap.PROT_READ) as m:
            seen.append(sha256(m[:]))
    os.close(fd)
    with mmap.mmap(ro, 20_000, mmap.MAP_SHARED, mmap.PROT_READ) as m:
        touch(path, os.O_WRONLY, data=b"changed")
        seen.append(m[:10])
    os.close(ro)
    with open(path, "rb") as f:
        return [*seen, sha256(f.read())]


@pytest.mark.modes("on")
def test_mappings(pair):
    pair.compare(mappings)


@pytest.mark.modes("off", "user")
def test_mappings_without_passthrough(mount):
    """A complete file maps as anywhere; a growing one cannot be mapped shared, even by its writer."""
    mount.write_file("f", pattern(20_000))
    reader = mount.reader("f")
    for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        assert reader.call(map_whole, kind, mmap.PROT_READ) == pattern(20_000)
    writer = mount.open("f", os.O_RDWR)
    both = mmap.PROT_READ | mmap.PROT_WRITE
    assert writer.errno(map_whole, mmap.MAP_SHARED, both) == errno.ENODEV


def map_whole(fd, kind, protection):
    with mmap.mmap(fd, 0, kind, protection) as m:
        return m[:]


def mapped_after_close(d):
    """A mapping outlives its descriptor."""
    path = f"{d}/f"
    touch(path, data=bytes(8192))
    fd = os.open(path, os.O_RDWR)
    m = mmap.mmap(fd, 8192, mmap.MAP_SHARED)
    os.close(fd)
    m[100:105] = b"later"
    m.close()
    with open(path, "rb") as f:
        return f.read()[100:105], look(path)


@pytest.mark.modes("on")
def test_a_mapping_outlives_its_descriptor(pair):
    pair.compare(mapped_after_close)


def times_of_a_mapping(d):
    """Bytes stored through it change the times at once, and they stay so when it is closed."""
    path = f"{d}/f"
    touch(path, os.O_WRONLY | os.O_CREAT, data=b"x" * 4096)
    os.utime(path, (1e9, 1e9))
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 4096) as mapping:
        seen = [os.stat(path).st_mtime, os.fstat(fd).st_mtime]
        mapping[0] = 1
        seen += [os.stat(path).st_mtime > 1e9, os.fstat(fd).st_mtime > 1e9]
    os.close(fd)
    return seen + [os.stat(path).st_mtime > 1e9]


@pytest.mark.modes("on")
def test_a_mapping_changes_the_times(pair):
    pair.compare(times_of_a_mapping)


def append_lines(path, who, count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for i in range(count):
        os.write(fd, b"%d %04d %s\n" % (who, i, b"x" * (i % 90)))
    os.close(fd)


def test_several_append_without_overwriting(mount):
    mount.write_file("f", b"")
    writers = [mount.agent().begin(append_lines, mount.path("f"), i, 300) for i in range(4)]
    for w in writers:
        w.result()
    lines = mount.stored_bytes("f").splitlines()
    assert len(lines) == 1200
    for who in range(4):
        mine = [x for x in lines if x.startswith(b"%d " % who)]
        assert mine == [b"%d %04d %s" % (who, i, b"x" * (i % 90)) for i in range(300)]


def privileges_dropped(d):
    """Set-user-id goes with a write or a truncation."""
    seen = {}
    for name, change in (("write", lambda p: touch(p, os.O_WRONLY, data=b"x")),
                         ("append", lambda p: touch(p, os.O_WRONLY | os.O_APPEND, data=b"x")),
                         ("truncate", lambda p: os.truncate(p, 1)),
                         ("O_TRUNC", lambda p: touch(p, os.O_WRONLY | os.O_TRUNC)),
                         ("fallocate", allocate_some), ("open only", lambda p: touch(p, os.O_WRONLY))):
        for mode in ("6777", "4755", "2775"):
            path = f"{d}/{mode}-{name}"
            seen[mode, name] = outcome(change, path), look(path)
    return seen


def allocate_some(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        fallocate(fd, 0, 0, 10_000)
    finally:
        os.close(fd)


def make_privileged(d):
    os.umask(0)
    for name in ("write", "append", "truncate", "O_TRUNC", "fallocate", "open only"):
        for mode in ("6777", "4755", "2775"):
            touch(f"{d}/{mode}-{name}", data=b"hello")
            os.chmod(f"{d}/{mode}-{name}", int(mode, 8))


@pytest.mark.modes("on", "off")
def test_privileges_are_dropped_by_writing(pair):
    compare_privileges(pair, {"uid": USER, "gid": USER})


@pytest.mark.modes("off")
def test_root_does_not_drop_privileges(pair):
    """The kernel's passthrough does: a stated limit."""
    compare_privileges(pair, {"uid": 0})


def compare_privileges(pair, who):
    seen = []
    for d in pair.folders():
        pair.mount.probe.call(make_privileged, d)
        seen.append(pair.mount.agent(**who).call(privileges_dropped, d))
    different = {k: (seen[0][k], seen[1][k]) for k in seen[0] if seen[0][k] != seen[1][k]}
    assert not different


def special_files(d):
    seen = []
    os.mkfifo(f"{d}/p")
    fd = os.open(f"{d}/p", os.O_RDWR)
    seen += [os.write(fd, b"hello"), os.read(fd, 10),
             bool(select.select([fd], [], [], 0)[0])]
    other = os.open(f"{d}/p", os.O_RDONLY | os.O_NONBLOCK)
    seen += [outcome(os.read, other, 1), outcome(os.lseek, fd, 0, 0)]
    server = socket.socket(socket.AF_UNIX)
    os.chdir(d)
    server.bind("s")
    server.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("s")
        peer, _ = server.accept()
        client.sendall(b"ping")
        seen.append(peer.recv(10))
    server.close()
    with socket.socket(socket.AF_UNIX) as client:
        seen += [outcome(client.connect, "s"), outcome(os.open, "s", os.O_RDONLY)]
    return [*seen, look("p"), look("s")]


def test_fifos_and_sockets(pair):
    pair.compare(special_files)


def programs(d):
    """Running from it, and what may not be written while it runs."""
    shutil.copy("/bin/sleep", f"{d}/sleep")
    with open(f"{d}/script", "w") as f:
        f.write("#!/bin/sh\necho run\n")
    os.chmod(f"{d}/script", 0o755)
    seen = [subprocess.run([f"{d}/script"], capture_output=True).stdout]
    running = subprocess.Popen([f"{d}/sleep", "30"])
    seen.append(outcome(touch, f"{d}/sleep", os.O_WRONLY))
    running.kill()
    running.wait()
    seen.append(outcome(touch, f"{d}/sleep", os.O_WRONLY))
    fd = os.open(f"{d}/script", os.O_WRONLY)
    seen.append(outcome(os.execv, f"{d}/script", ["script"]))
    os.close(fd)
    os.chmod(f"{d}/script", 0o644)
    return [*seen, outcome(os.execv, f"{d}/script", ["script"])]


def test_programs_run_from_it(pair):
    pair.compare(programs)


def limited_size(d):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    fd = os.open(f"{d}/f", os.O_RDWR | os.O_CREAT, 0o644)
    return [os.write(fd, b"x" * 8000), os.write(fd, b"x" * 8000), outcome(os.write, fd, b"x"),
            os.fstat(fd).st_size, outcome(os.ftruncate, fd, 20_000), outcome(os.pwrite, fd, b"x", 9_999),
            outcome(fallocate, fd, 0, 0, 20_000), os.fstat(fd).st_size]


def test_file_size_limit(pair):
    pair.compare(limited_size)


def copies(d):
    touch(f"{d}/f", data=pattern(300_000))
    fd = os.open(f"{d}/f", os.O_RDONLY)
    out = os.open(f"{d}/g", os.O_RDWR | os.O_CREAT, 0o644)
    done = 0
    while got := os.copy_file_range(fd, out, 1 << 20, done, done):
        done += got
    seen = [done, sha256(os.pread(out, 1 << 20, 0)), os.copy_file_range(fd, out, 100, 50, 7),
            sha256(os.pread(out, 1 << 20, 0))]
    sent = 0
    while got := os.sendfile(out, fd, sent, 1 << 20):
        sent += got
    seen += [sent, sha256(os.pread(out, 1 << 20, 0)), outcome(os.copy_file_range, out, fd, 10),
             outcome(os.copy_file_range, fd, fd, 100, 0, 50)]
    for f in (fd, out):
        os.close(f)
    return seen


def test_copies_in_the_kernel(pair):
    pair.compare(copies)


# -- locks


def lock_flock(fd, kind):
    fcntl.flock(fd, kind)


def lock_posix(fd, kind, start=0, length=0):
    fcntl.lockf(fd, kind, length, start)


F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
LOCK = struct.Struct("hhqqi4x")


def lock_ofd(fd, kind, start=0, length=0):
    kinds = {fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}
    wait = not kind & fcntl.LOCK_NB
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK,
                LOCK.pack(kinds[kind & ~fcntl.LOCK_NB], 0, start, length, 0))


SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB


@pytest.fixture
def two(mount):
    """One file, opened by two programs."""
    mount.write_file("f", b"x" * 1000)
    return mount.open("f", os.O_RDWR), mount.open("f", os.O_RDWR)


all_locks = pytest.mark.parametrize("lock", [lock_flock, lock_posix, lock_ofd])


@all_locks
def test_locks_exclude(two, lock):
    a, b = two
    again = (errno.EAGAIN, errno.EACCES)
    a.call(lock, EX)
    assert b.errno(lock, EX | NB) in again
    assert b.errno(lock, SH | NB) in again
    a.call(lock, SH)
    b.call(lock, SH | NB)
    assert a.errno(lock, EX | NB) in again
    a.call(lock, UN)
    b.call(lock, EX | NB)
    assert a.errno(lock, SH | NB) in again
    b.agent.end()
    a.call(lock, EX)


@all_locks
def test_locks_wait(two, lock):
    a, b = two
    a.call(lock, EX)
    pending = b.begin(lock, EX)
    pending.wait_blocked_somewhere()
    procs.stays(lambda: not pending.done(), "waiting for the lock")
    a.call(lock, UN)
    pending.result()
    pending = a.begin(lock, SH)
    pending.wait_blocked_somewhere()
    b.agent.end()
    pending.result()


@all_locks
def test_waiting_for_a_lock_can_be_killed(two, lock):
    a, b = two
    a.call(lock, EX)
    b.agent.call(handle_signal, signal.SIGUSR1, "default")
    b.begin(lock, EX).wait_blocked_somewhere()
    b.agent.kill(signal.SIGUSR1)
    assert b.agent.wait() == -signal.SIGUSR1
    a.call(lock, UN)
    a.call(lock, EX)


@pytest.mark.parametrize("lock", [lock_posix, lock_ofd])
def test_locks_of_ranges(two, lock):
    a, b = two
    a.call(lock, EX, 0, 100)
    b.call(lock, EX | NB, 100, 100)
    assert b.errno(lock, EX | NB, 99, 1) in (errno.EAGAIN, errno.EACCES)
    a.call(lock, UN, 50, 50)
    b.call(lock, EX | NB, 50, 150)
    assert a.errno(lock, SH | NB, 199, 1) in (errno.EAGAIN, errno.EACCES)


def test_posix_locks_go_with_any_close(two):
    a, b = two
    a.call(lock_posix, EX)
    copy = a.agent.call(os.open, a.path, os.O_RDONLY)
    a.agent.call(os.close, copy)
    b.call(lock_posix, EX | NB)


def test_ofd_locks_stay_with_the_description(two):
    a, b = two
    a.call(lock_ofd, EX)
    copy = a.call(os.dup)
    a.close()
    assert b.errno(lock_ofd, EX | NB) in (errno.EAGAIN, errno.EACCES)
    a.agent.call(os.close, copy)
    b.call(lock_ofd, EX | NB)


def test_who_holds_a_lock_is_told(two):
    a, b = two
    a.call(lock_posix, EX, 10, 20)
    kind, _, start, length, pid = LOCK.unpack(b.call(get_lock))
    assert (kind, start, length, pid) == (fcntl.F_WRLCK, 10, 20, a.agent.pid)


def get_lock(fd):
    return fcntl.fcntl(fd, fcntl.F_GETLK, LOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))


def test_a_follower_may_lock_too(mount):
    writer = mount.writer("f", os.O_RDWR | os.O_CREAT)
    writer.write(b"hello")
    reader = mount.reader("f")
    reader.call(lock_flock, SH)
    assert writer.errno(lock_flock, EX | NB) == errno.EAGAIN
    assert reader.read() == b"hello"
    held = reader.begin_read().wait_held()
    writer.write(b"!")
    assert held.result() == b"!"


@pytest.mark.modes("on", "off")
def test_owners_change_while_open(mount):
    """A descriptor keeps what it was opened for."""
    mount.write_file("f", b"hello")
    mount.probe.call(os.chown, mount.path("f"), USER, USER)
    owner = mount.open("f", os.O_RDWR, mount.agent(uid=USER))
    mount.probe.call(os.chown, mount.path("f"), OTHER, OTHER)
    mount.probe.call(os.chmod, mount.path("f"), 0)
    owner.pwrite(b"H", 0)
    assert owner.pread(10, 0) == b"Hello"
    assert mount.agent(uid=USER).errno(os.open, mount.path("f"), os.O_RDONLY) == errno.EACCES


def lease(path):
    """Take a write lease; the request to break it is seen through, then it is given up."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return fd


def is_being_broken(fd):
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK


def end_lease(fd):
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_a_lease_in_the_store_is_waited_for(mount, flags):
    """As in the store: the open waits until who has it lets go."""
    mount.write_file("f", b"hello")
    holder, opener = mount.agent(), mount.agent()
    fd = holder.call(lease, mount.stored("f"))
    pending = opener.begin(os.open, mount.path("f"), flags)
    procs.wait_until(lambda: holder.call(is_being_broken, fd), "the lease to be broken")
    pending.wait_blocked("open", "openat")
    holder.call(end_lease, fd)
    assert pending.result() >= 0
