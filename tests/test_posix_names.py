# SPDX-License-Identifier: MIT
"""Names, owners and attributes: on the mount as on the store's own filesystem."""
import collections
import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
import time

import pytest

from harness import sandbox
from harness.sidebyside import GROUP, OTHER, USER, Pair, look, outcome, touch
from harness.tools import need

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4

# Who makes the calls: the mount's own user, and on root's mounts somebody else too.
CALLER = {"uid": USER, "gid": USER, "groups": [GROUP]}


@pytest.fixture
def pair(mount):
    return Pair(mount)


def callers(pair):
    return [None] if pair.mount.mode == "user" else [None, CALLER]


def renameat2(old, new, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def link_descriptor(fd, path):
    """linkat(2) of an unnamed file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(path), 0x400) != 0:
        raise OSError(ctypes.get_errno(), "linkat")


def creation(d):
    seen = {}
    for mask in (0, 0o022, 0o077):
        os.umask(mask)
        for mode in (0o666, 0o777, 0o600, 0o4755, 0o2755, 0o1777, 0):
            name = f"{d}/{mask:o}-{mode:o}"
            made = {"f": lambda p: touch(p, mode=mode, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL),
                    "d": lambda p: os.mkdir(p, mode), "p": lambda p: os.mkfifo(p, mode),
                    "n": lambda p: os.mknod(p, stat.S_IFREG | mode)}
            for kind, make in made.items():
                seen[mask, mode, kind] = outcome(make, name + kind), look(name + kind)
    os.umask(0o022)
    os.symlink("a target", f"{d}/link")
    seen["symlink"] = look(f"{d}/link"), os.readlink(f"{d}/link")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"{d}/socket")
    seen["socket"] = look(f"{d}/socket")
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        seen[kind] = outcome(os.mknod, f"{d}/{kind}", kind | 0o600, os.makedev(1, 3)), \
            look(f"{d}/{kind}", "st_rdev")
    return seen


def test_creation(pair):
    for who in callers(pair):
        pair.compare(creation, who=who)


def existing(d):
    """Flags of open(2) against what is there."""
    touch(f"{d}/file", data=b"hello")
    os.mkdir(f"{d}/dir")
    os.symlink("file", f"{d}/link")
    os.symlink("nowhere", f"{d}/dangling")
    os.symlink("loop", f"{d}/loop")
    os.mkfifo(f"{d}/fifo")
    seen = {}
    flags = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_DIRECTORY",
             "O_NOFOLLOW", "O_PATH", "O_TMPFILE", "O_APPEND")
    sets = [[f] for f in flags] + [
        ["O_CREAT", "O_EXCL"], ["O_CREAT", "O_DIRECTORY"], ["O_WRONLY", "O_TRUNC"],
        ["O_WRONLY", "O_DIRECTORY"], ["O_CREAT", "O_NOFOLLOW"], ["O_PATH", "O_NOFOLLOW"],
        ["O_RDWR", "O_TMPFILE"], ["O_WRONLY", "O_CREAT", "O_EXCL"]]
    for name in ("file", "dir", "link", "dangling", "loop", "missing", "file/below", "dir/", "file/",
                 "missing/", "link/", "dir/.", "dir/..", ""):
        for names in sets:
            value = 0
            for flag in names:
                value |= getattr(os, flag)
            result = outcome(os.open, f"{d}/{name}", value, 0o644)
            if isinstance(result, int):
                os.close(result)
                result = "opened"
            seen[name, tuple(names)] = result, look(f"{d}/{name}", follow=True)
            if name in ("missing", "dangling"):
                outcome(os.unlink, f"{d}/missing")
                outcome(os.unlink, f"{d}/nowhere")
            touch(f"{d}/file", data=b"hello")
    seen["fifo without a reader"] = outcome(os.open, f"{d}/fifo", os.O_WRONLY | os.O_NONBLOCK)
    return seen


@pytest.mark.tmpfile
def test_open_flags(pair):
    pair.compare(existing)


def ownership(d):
    seen = {}
    touch(f"{d}/f", mode=0o644)
    os.mkdir(f"{d}/d")
    os.symlink("f", f"{d}/l")
    me, mine = os.geteuid(), os.getegid()
    for uid, gid in ((-1, -1), (me, mine), (-1, mine), (-1, GROUP), (OTHER, -1), (-1, 7), (0, 0), (me, -1),
                     (OTHER, OTHER)):
        for name in ("f", "d", "l"):
            outcome(os.chmod, f"{d}/f", 0o6755)
            seen[uid, gid, name] = outcome(os.lchown, f"{d}/{name}", uid, gid), look(f"{d}/{name}")
    for mode in (0o7777, 0o4711, 0o2755, 0o1777, 0, 0o644):
        seen[mode] = (outcome(os.chmod, f"{d}/f", mode), look(f"{d}/f"),
                      outcome(os.chmod, f"{d}/d", mode | 0o700), look(f"{d}/d"))
    return seen


def test_ownership(pair):
    for who in callers(pair):
        pair.compare(ownership, who=who)


def set_id_bits_among_new_files(d):
    """Root is in no group, and keeps set-group-id bits of all."""
    seen = []
    for k in range(64):
        touch(f"{d}/{k}")
        os.chown(f"{d}/{k}", -1, 7)
        os.chmod(f"{d}/{k}", 0o2755 if k % 2 else 0o2644)
        seen.append(look(f"{d}/{k}"))
        touch(f"{d}/{k}-another")
        os.chown(f"{d}/{k}", -1, 8)
        seen.append(look(f"{d}/{k}"))
    return seen


@pytest.mark.modes("on", "off")
def test_set_id_bits_among_new_files(pair):
    pair.compare(set_id_bits_among_new_files)


@pytest.mark.modes("on", "off")
def test_set_id_bits_when_many_ask(mount):
    """The daemon starts threads then, from those that have just served somebody."""
    agents = {mount.path(f"d{k}"): mount.agent() for k in range(32)}
    for folder in agents:
        os.mkdir(folder)
    asked = [agent.begin(set_id_bits_among_new_files, folder) for folder, agent in agents.items()]
    for one in asked:
        seen = one.result(60)
        assert {mode for mode, *_ in seen[::2]} == {"0o102644", "0o102755"}


def setgid_folder(d, gid):
    """Set-group-id folders hand down their group, and folders the bit."""
    seen = {}
    os.mkdir(f"{d}/g")
    seen["chown"] = outcome(os.chown, f"{d}/g", -1, gid)
    seen["chmod"] = outcome(os.chmod, f"{d}/g", 0o2775), look(f"{d}/g")
    touch(f"{d}/g/f", mode=0o2775)
    os.mkdir(f"{d}/g/d")
    os.symlink("f", f"{d}/g/l")
    os.mkfifo(f"{d}/g/p")
    touch(f"{d}/g/d/deeper")
    for name in ("f", "d", "l", "p", "d/deeper"):
        seen[name] = look(f"{d}/g/{name}")
    return seen


@pytest.mark.modes("on", "off")
def test_setgid_folders_and_supplementary_groups(pair):
    for who in callers(pair):
        for gid in (GROUP, USER, 7):
            pair.compare(setgid_folder, gid, who=who)


def ids_of_the_caller(d):
    touch(f"{d}/f")
    os.mkdir(f"{d}/d")
    os.symlink("x", f"{d}/l")
    os.mkfifo(f"{d}/p")
    os.link(f"{d}/f", f"{d}/h")
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    link_descriptor(fd, f"{d}/t")
    os.close(fd)
    return {n: look(f"{d}/{n}") for n in "fdlpht"}


@pytest.mark.tmpfile
@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("who", [{"uid": USER, "gid": GROUP, "umask": 0o077},
                                 {"uid": OTHER, "gid": OTHER, "groups": [GROUP, 7]},
                                 {"uid": USER, "gid": 0}, {"uid": 0, "gid": USER}])
def test_files_get_the_callers_ids(pair, who):
    seen = pair.compare(ids_of_the_caller, who=who)
    assert seen["f"][2:4] == (who["uid"], who["gid"])


def permissions(d):
    """As somebody who is not the owner."""
    seen = {"names": outcome(lambda: sorted(os.listdir(d)))}
    for name in NAMES:
        path = f"{d}/{name}"
        seen[name] = [outcome(os.access, path, mode) for mode in (os.R_OK, os.W_OK, os.X_OK)]
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            result = outcome(os.open, path, flags)
            if isinstance(result, int):
                os.close(result)
                result = "opened"
            seen[name].append(result)
        seen[name] += [outcome(os.listdir, path), look(f"{path}/inside"),
                       outcome(touch, f"{path}/new"), outcome(os.rename, path, path + "x"),
                       outcome(os.chmod, path, 0o777), outcome(os.truncate, path, 3),
                       outcome(os.utime, path), outcome(os.utime, path, (1, 1)),
                       outcome(os.link, path, path + "l"),
                       outcome(os.setxattr, path, "user.x", b"1"),
                       outcome(os.unlink, path), outcome(os.rmdir, path)]
    return seen


MODES = (0o777, 0o755, 0o700, 0o070, 0o007, 0o000, 0o444, 0o222, 0o111, 0o744)
NAMES = ["f", "sub", *(f"{kind}{mode:o}" for kind in "fd" for mode in MODES)]


def lay_out(d, folder_mode):
    os.umask(0)
    for mode in MODES:
        touch(f"{d}/f{mode:o}", mode=mode, data=b"hello") if mode & 0o200 or os.geteuid() == 0 \
            else os.mknod(f"{d}/f{mode:o}", mode)
        os.mkdir(f"{d}/d{mode:o}")
        touch(f"{d}/d{mode:o}/inside")
        os.chmod(f"{d}/d{mode:o}", mode)
    os.umask(0o022)
    os.chmod(d, folder_mode)


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("folder_mode", [0o777, 0o1777, 0o755, 0o711])
@pytest.mark.parametrize("who", [{"uid": USER, "gid": USER}, {"uid": USER, "gid": USER, "groups": [0]}],
                         ids=["other", "group"])
def test_permissions_are_checked(pair, folder_mode, who):
    folders = pair.folders()
    seen = []
    for d in folders:
        pair.mount.probe.call(lay_out, d, folder_mode)
        seen.append(pair.mount.agent(**who).call(permissions, d))
    assert seen[0] == seen[1]


def open_again_and_again(path, flags, count):
    """Owners of what was opened, and errors, by how often."""
    seen = collections.Counter()
    for _ in range(count):
        try:
            fd = os.open(path, flags, 0o640)
            seen[os.fstat(fd).st_uid] += 1
            os.close(fd)
            os.unlink(path)
        except OSError as e:
            seen[errno.errorcode[e.errno]] += 1
    return seen


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY])
def test_what_appears_while_it_is_created_has_its_own_permissions(mount, flags):
    """The kernel found no such name and asks for its creation; by then somebody else's is there.

    It is told to look again (ESTALE), which it does once.
    """
    os.mkdir(mount.stored("d"))
    os.chmod(mount.stored("d"), 0o777)
    user = mount.agent(uid=USER)
    opening = user.begin(open_again_and_again, mount.path("d/f"), flags | os.O_CREAT, 1000)
    mine = 0
    while not opening.done():
        try:
            os.close(os.open(mount.stored("d/f"), os.O_CREAT | os.O_EXCL, 0o600))
            mine += 1
            os.unlink(mount.stored("d/f"))
            time.sleep(0.0002)  # the other's turn
        except (FileExistsError, FileNotFoundError):
            pass
    seen = opening.result()
    assert mine and seen[USER]
    assert set(seen) <= {USER, "EACCES", "ENOENT", "ESTALE"}, seen


def links(d):
    seen = []
    touch(f"{d}/f", data=b"hello")
    os.mkdir(f"{d}/sub")
    os.symlink("f", f"{d}/s")
    for i in range(20):
        os.link(f"{d}/f", f"{d}/sub/l{i}")
    seen += [look(f"{d}/f"), look(f"{d}/sub/l3")]
    seen += [os.stat(f"{d}/f").st_ino == os.stat(f"{d}/sub/l{i}").st_ino for i in range(20)]
    seen += [outcome(os.link, f"{d}/f", f"{d}/sub"), outcome(os.link, f"{d}/sub", f"{d}/dl"),
             outcome(os.link, f"{d}/s", f"{d}/s2", follow_symlinks=False), look(f"{d}/s2"),
             outcome(os.link, f"{d}/missing", f"{d}/x")]
    os.unlink(f"{d}/f")
    seen += [look(f"{d}/sub/l0"), open(f"{d}/sub/l7").read(), outcome(os.readlink, f"{d}/sub")]
    for target in ("x" * 4095, "/", "../..", "ä" * 1000, "a\nb"):
        os.symlink(target, f"{d}/long")
        seen += [os.readlink(f"{d}/long") == target, look(f"{d}/long")]
        os.unlink(f"{d}/long")
    seen += [outcome(os.symlink, "x" * 4096, f"{d}/long"), outcome(os.symlink, "", f"{d}/empty")]
    return seen


def test_links(pair):
    pair.compare(links)


def links_held_by_path(d):
    """O_PATH descriptors of files, of whose two names the one that was seen last is gone."""
    seen = []
    for i in range(50):
        touch(f"{d}/f{i}", data=b"%d" % i)
        os.link(f"{d}/f{i}", f"{d}/g{i}")
        fd = os.open(f"{d}/f{i}", os.O_PATH)
        os.unlink(f"{d}/g{i}")
        seen += [os.fstat(fd).st_nlink, open(f"/proc/self/fd/{fd}").read()]
    return seen


def test_links_held_by_path(pair):
    pair.compare(links_held_by_path)


def renames(d, flags):
    seen = {}

    def fresh():
        shutil.rmtree(f"{d}/r", ignore_errors=True)
        os.makedirs(f"{d}/r/full/below")
        os.mkdir(f"{d}/r/empty")
        os.mkdir(f"{d}/r/other")
        touch(f"{d}/r/file", data=b"file")
        touch(f"{d}/r/file2", data=b"file2")
        os.link(f"{d}/r/file", f"{d}/r/same")

    def tree():
        return sorted((os.path.relpath(p, d), sorted(ds), sorted(fs)) for p, ds, fs in os.walk(f"{d}/r"))

    fresh()
    whole = tree()
    for old in ("full", "empty", "file", "same", "missing", "full/below", "."):
        for new in ("full", "other", "file2", "same", "missing", "full/below", "full/new", "file/x", ".."):
            seen[old, new] = outcome(renameat2, f"{d}/r/{old}", f"{d}/r/{new}", flags), tree()
            if seen[old, new][1] != whole or flags == RENAME_EXCHANGE:
                fresh()
    return seen


@pytest.mark.parametrize("flags", [0, RENAME_NOREPLACE, RENAME_EXCHANGE, 64,
                                   RENAME_NOREPLACE | RENAME_EXCHANGE])
def test_rename(pair, flags):
    pair.compare(renames, flags)


def whiteout(d):
    touch(f"{d}/a", data=b"a")
    return {"result": outcome(renameat2, f"{d}/a", f"{d}/b", RENAME_WHITEOUT),
            "left": look(f"{d}/a", "st_rdev"), "made": look(f"{d}/b")}


def test_rename_whiteout(pair):
    for who in callers(pair):
        pair.compare(whiteout, who=who)


def odd_names(d):
    seen = {}
    for name in ("x" * 255, "x" * 256, "ä" * 127, "a\nb", "-rf", "a\\b", " ", "...", "\x01", "\udcff\udcfe",
                 "*", "\U0001f600" * 60, "..x", "~"):
        seen[name] = (outcome(touch, f"{d}/{name}", data=b"x"), look(f"{d}/{name}"),
                      outcome(os.mkdir, f"{d}/{name}d"), outcome(os.rename, f"{d}/{name}", f"{d}/tmp"),
                      outcome(os.rename, f"{d}/tmp", f"{d}/{name}"))
    seen["list"] = sorted(os.listdir(d))
    return seen


def test_odd_names(pair):
    pair.compare(odd_names)


def deep_paths(d):
    seen = []
    os.chdir(d)
    for _ in range(120):
        os.mkdir("n" * 60)
        os.chdir("n" * 60)
    touch("f", data=b"deep")
    seen += [look("f"), os.listdir(".")]
    os.chdir(d)
    seen.append(outcome(os.stat, "/".join(["n" * 60] * 119)))
    seen.append(subprocess.run(["find", ".", "-name", "f", "-printf", "%f %d"],
                               capture_output=True).stdout)
    seen.append(subprocess.run(["rm", "-rf", "n" * 60]).returncode)
    return seen + os.listdir(".")


def test_deep_paths(pair):
    pair.compare(deep_paths)


def removed_folders(d):
    seen = []
    os.makedirs(f"{d}/a/b")
    touch(f"{d}/file")
    seen += [outcome(os.rmdir, f"{d}/a"), outcome(os.rmdir, f"{d}/file"),
             outcome(os.unlink, f"{d}/a"), outcome(os.rmdir, f"{d}/a/b/."),
             outcome(os.rmdir, f"{d}/a/b/.."), outcome(os.rmdir, f"{d}/missing")]
    os.chdir(f"{d}/a/b")
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(f"{d}/a/b")
    seen += [outcome(os.getcwd), outcome(os.listdir, "."), outcome(touch, "f"),
             outcome(os.mkdir, "d"), outcome(os.stat, "..") != "ENOENT", os.fstat(fd).st_nlink,
             outcome(os.listdir, fd), outcome(os.fsync, fd)]
    os.close(fd)
    return seen


def test_removed_folders(pair):
    pair.compare(removed_folders)


def large_folder(d):
    """Every name exactly once, types right, while others come and go."""
    names = [f"name-{i:04}" for i in range(1500)]
    for i, name in enumerate(names):
        os.mkdir(f"{d}/{name}") if i % 10 == 0 else touch(f"{d}/{name}")
    first = [(e.name, e.is_dir(), e.inode() == e.stat().st_ino) for e in os.scandir(d)]
    seen = [sorted(first) == [(n, i % 10 == 0, True) for i, n in enumerate(names)]]
    met = []
    with os.scandir(d) as entries:
        for i, entry in enumerate(entries):
            met.append(entry.name)
            if i < 500:
                touch(f"{d}/other-{i}")
    seen.append(sorted(n for n in met if n.startswith("name-")) == names)
    with os.scandir(d) as entries:
        for entry in entries:
            os.rmdir(entry) if entry.is_dir() else os.unlink(entry)
    return seen + [os.listdir(d), os.stat(d).st_nlink]


def test_large_and_changing_folders(pair):
    pair.compare(large_folder, timeout=60)


TRUNC = os.O_WRONLY | os.O_TRUNC


def truncate_open(path, size):
    fd = os.open(path, os.O_WRONLY)
    os.ftruncate(fd, size)
    os.close(fd)


def times(d):
    seen = {}
    touch(f"{d}/f", data=b"hello")
    os.symlink("f", f"{d}/l")
    for at, mt in ((1, 2), (1_700_000_000_123_456_789, 1_600_000_000_999_999_999),
                   (-1_000_000_000, 2**33 * 10**9), (0, 0)):
        for name, follow in (("f", True), ("l", False), (".", True)):
            os.utime(f"{d}/{name}", ns=(at, mt), follow_symlinks=follow)
            st = os.stat(f"{d}/{name}", follow_symlinks=follow)
            seen[at, name] = st.st_atime_ns, st.st_mtime_ns
    old = 10**9
    steps = {"write": lambda: touch(f"{d}/f", data=b"more"),
             "chmod": lambda: os.chmod(f"{d}/f", 0o600), "truncate": lambda: os.truncate(f"{d}/f", 2),
             "same size": lambda: os.truncate(f"{d}/f", 2), "link": lambda: os.link(f"{d}/f", f"{d}/f2"),
             "rename": lambda: os.rename(f"{d}/f2", f"{d}/f3"),
             "xattr": lambda: os.setxattr(f"{d}/f", "user.x", b"1"), "mkdir": lambda: os.mkdir(f"{d}/x"),
             "same times": lambda: os.utime(f"{d}/f", ns=(old, old)),
             "same mode": lambda: os.chmod(f"{d}/f", 0o600),
             "same owner": lambda: os.chown(f"{d}/f", os.getuid(), os.getgid()),
             "no owner": lambda: os.chown(f"{d}/f", -1, -1),
             "same xattr": lambda: os.setxattr(f"{d}/f", "user.x", b"1"),
             "same name": lambda: os.rename(f"{d}/f", f"{d}/f"),
             "another of its names": lambda: os.rename(f"{d}/f", f"{d}/f3"),
             "unlink": lambda: os.unlink(f"{d}/f3"), "nothing": lambda: None,
             "same size, open": lambda: truncate_open(f"{d}/f", 2), "O_TRUNC": lambda: touch(f"{d}/f", TRUNC),
             "O_TRUNC, empty": lambda: touch(f"{d}/f", TRUNC)}
    for name, step in steps.items():
        for path in (f"{d}/f", d):
            os.utime(path, ns=(old, old))
        time.sleep(0.02)  # the store's clock ticks
        before = [os.stat(p).st_ctime_ns for p in (f"{d}/f", d)]
        step()
        after = [os.stat(p) for p in (f"{d}/f", d)]
        seen[name] = [(a.st_mtime_ns != old, a.st_ctime_ns != b) for a, b in zip(after, before)]
        seen[name].append(after[0].st_nlink)
    return seen


def test_times(pair):
    pair.compare(times)


def xattrs(d):
    seen = {}
    touch(f"{d}/f")
    os.symlink("f", f"{d}/l")
    for name in ("user.a", "user." + "n" * 250, "user." + "n" * 251, "trusted.a", "security.a", "bad.a",
                 "user", "user.", "", "system.a"):
        for path in ("f", ".", "l"):
            p = f"{d}/{path}"
            seen[name, path] = (
                outcome(os.setxattr, p, name, b"1", follow_symlinks=False),
                outcome(os.setxattr, p, name, b"2", os.XATTR_CREATE, follow_symlinks=False),
                outcome(os.getxattr, p, name, follow_symlinks=False),
                outcome(os.setxattr, p, name, b"", os.XATTR_REPLACE, follow_symlinks=False),
                outcome(os.getxattr, p, name, follow_symlinks=False),
                sorted(os.listxattr(p, follow_symlinks=False)),
                outcome(os.removexattr, p, name, follow_symlinks=False),
                outcome(os.removexattr, p, name, follow_symlinks=False),
                outcome(os.getxattr, p, name, follow_symlinks=False))
    for size in (1, 1000, 3000, 5000, 65536, 65537):
        seen[size] = outcome(os.setxattr, f"{d}/f", "user.big", b"x" * size), \
            len(outcome(os.getxattr, f"{d}/f", "user.big"))
    seen["replace"] = outcome(os.setxattr, f"{d}/f", "user.none", b"", os.XATTR_REPLACE)
    fd = os.open(f"{d}/f", os.O_RDWR)
    os.unlink(f"{d}/f")
    seen["unlinked"] = outcome(os.setxattr, fd, "user.late", b"x"), outcome(os.getxattr, fd, "user.late")
    os.close(fd)
    return seen


def test_xattrs(pair):
    for who in callers(pair):
        pair.compare(xattrs, who=who)


def acls(d):
    """What setfacl sets is inherited, shown and masks the mode as usual."""
    def getfacl(name):
        return subprocess.run(["getfacl", "-n", "--omit-header", name], cwd=d,
                              capture_output=True).stdout

    def setfacl(*args):
        return subprocess.run(["setfacl", *args], cwd=d, capture_output=True).returncode

    seen = {}
    os.mkdir(f"{d}/a")
    seen["default"] = setfacl("-d", "-m", f"u:{USER}:rwx,g:{GROUP}:r-x,o::-", "a"), getfacl("a")
    seen["access"] = setfacl("-m", f"u:{USER}:rwx", "a"), getfacl("a"), look(f"{d}/a")
    for mask in (0, 0o027, 0o077):
        os.umask(mask)
        touch(f"{d}/a/f{mask:o}", mode=0o666)
        os.mkdir(f"{d}/a/d{mask:o}", 0o777)
        for name in (f"a/f{mask:o}", f"a/d{mask:o}"):
            seen[name] = getfacl(name), look(f"{d}/{name}")
    os.umask(0o022)
    os.chmod(f"{d}/a/f0", 0o640)
    seen["chmod"] = getfacl("a/f0"), look(f"{d}/a/f0")
    seen["mask"] = setfacl("-m", "m::r", "a/f0"), getfacl("a/f0"), look(f"{d}/a/f0")
    seen["remove"] = setfacl("-b", "a/f0"), getfacl("a/f0"), look(f"{d}/a/f0")
    seen["remove default"] = setfacl("-k", "a"), getfacl("a")
    seen["cp -a"] = subprocess.run(["cp", "-a", "a", "b"], cwd=d).returncode, getfacl("b"), getfacl("b/f27")
    return seen


def test_acls(pair):
    need("setfacl", "getfacl")
    for who in callers(pair):
        pair.compare(acls, who=who)


def grant(d):
    touch(f"{d}/f", mode=0o600, data=b"hello")
    os.mkdir(f"{d}/sub", 0o700)
    touch(f"{d}/sub/f", mode=0o644)
    for acl, name in ((f"u:{USER}:rw", "f"), (f"g:{GROUP}:rx", "sub")):
        subprocess.run(["setfacl", "-m", acl, name], cwd=d, check=True)


@pytest.mark.modes("on", "off")
def test_acls_grant_and_refuse(pair):
    need("setfacl")
    seen = []
    for d in pair.folders(0o755):
        pair.mount.probe.call(grant, d)
        seen.append([pair.mount.agent(**who).call(permissions, d) for who in
                     (CALLER, {"uid": USER, "gid": USER}, {"uid": OTHER, "gid": GROUP},
                      {"uid": OTHER, "gid": OTHER})])
    assert seen[0] == seen[1]
    assert "opened" in seen[0][0]["f"]


@pytest.mark.modes("on", "off")
def test_a_store_without_acls(mode, base, make_mount):
    """Modes alone decide, for those too whom root's rights do not let in anyway."""
    path = os.path.join(base, f"noacl-{mode}")
    os.mkdir(path)
    sandbox.mount("ramfs", path, "ramfs", 0, "mode=755")
    try:
        mount = make_mount(mode, store=path)
        mount.allow_log("marker")
        pair = Pair(mount)
        assert mount.probe.errno(os.setxattr, mount.mnt, "system.posix_acl_access",
                                 b"") == errno.EOPNOTSUPP
        for who in (CALLER, {"uid": OTHER, "gid": GROUP}, {"uid": OTHER, "gid": OTHER}):
            pair.compare(creation, who=who)
            seen = []
            for d in pair.folders(0o775):
                mount.probe.call(os.chown, d, 0, GROUP)
                mount.probe.call(touch, f"{d}/f", mode=0o640, data=b"hello")
                mount.probe.call(os.chown, f"{d}/f", 0, GROUP)
                mount.probe.call(os.mkdir, f"{d}/sub")
                seen.append(mount.agent(**who).call(permissions, d))
            assert seen[0] == seen[1]
        mount.stop()
    finally:
        sandbox.umount(path, sandbox.MNT_DETACH)


def test_inode_numbers_are_the_stores(mount):
    mount.probe.call(os.makedirs, mount.path("a/b"))
    mount.write_file("a/f", b"x")
    mount.probe.call(os.symlink, "f", mount.path("a/l"))
    for name in ("a", "a/b", "a/f", "a/l"):
        assert mount.probe.call(os.lstat, mount.path(name)).st_ino == os.lstat(mount.stored(name)).st_ino
    assert mount.stat().st_ino == os.stat(mount.store).st_ino
    listed = mount.probe.call(entries, mount.path("a"))
    assert listed == entries(mount.stored("a"))


def entries(path):
    return sorted((e.name, e.inode()) for e in os.scandir(path))


def test_statfs(mount):
    fields = ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax")
    there, here = mount.probe.call(statvfs, mount.mnt), statvfs(mount.store)
    assert {f: there[f] for f in fields} == {f: here[f] for f in fields}
    assert abs(there["f_bavail"] - here["f_bavail"]) < here["f_blocks"] // 100


def statvfs(path):
    st = os.statvfs(path)
    return {name: getattr(st, name) for name in dir(st) if name.startswith("f_")}


def test_changes_in_the_store_are_seen_in_a_second(mount):
    """Files that come and go beside the mount, and names that were looked for before."""
    from harness import procs
    assert mount.probe.errno(os.stat, mount.path("new")) == errno.ENOENT
    with open(mount.stored("new"), "w") as f:
        f.write("hello")
    procs.wait_until(lambda: mount.probe.errno(os.stat, mount.path("new")) == 0, "the new name", 2)
    os.unlink(mount.stored("new"))
    procs.wait_until(lambda: mount.probe.errno(os.stat, mount.path("new")) == errno.ENOENT,
                     "the name to go", 2)


# -- other filesystems in the store


@pytest.mark.modes("on", "off")
def test_other_filesystems_in_the_store(mount):
    """Both have files of the same numbers, which cp(1) takes for links of one; each has its size."""
    folders = "a", "b"
    for name in folders:
        os.mkdir(mount.stored(name))
        sandbox.mount("none", mount.stored(name), "tmpfs", 0, "size=1m")
    try:
        for name in folders:
            with open(mount.stored(f"{name}/f"), "w") as f:
                f.write(name)
            os.link(mount.stored(f"{name}/f"), mount.stored(f"{name}/g"))
            assert os.statvfs(mount.path(f"{name}/f")).f_blocks == 256
            assert os.stat(mount.path(f"{name}/f")).st_ino == os.stat(mount.path(f"{name}/g")).st_ino
            for entry in os.scandir(mount.path(name)):
                assert entry.inode() == entry.stat().st_ino
        subprocess.run(["cp", "-a", mount.mnt, mount.base + "/copy"], check=True, timeout=10)
        for name in folders:
            for link in "f", "g":
                with open(f"{mount.base}/copy/{name}/{link}") as f:
                    assert f.read() == name
    finally:
        for name in folders:
            sandbox.umount(mount.stored(name), sandbox.MNT_DETACH)
