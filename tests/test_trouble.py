# SPDX-License-Identifier: MIT
"""Bad input: one clear line, a non-zero exit, nothing left mounted."""
import os
import subprocess

import pytest

from harness import mount as mounts
from harness import procs
from harness.mount import BINARY, NOBODY, mount_entry

pytestmark = [pytest.mark.sanitize, pytest.mark.sysfuse]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: not running as root")


class Place:
    """A store and a mount point to start a daemon on that must not start."""

    def __init__(self, base):
        self.mount = mounts.Mount(base, "off")
        self.base, self.store, self.mnt = self.mount.base, self.mount.store, self.mount.mnt
        for path in (self.store, self.mnt):
            os.chmod(path, 0o777)

    def path(self, name, content=None):
        path = os.path.join(self.base, name)
        if content is not None:
            with open(path, "w") as f:
                f.write(content)
        return path

    def refuse(self, argv, *words, uid=None, foreground=True, status=None):
        """Running argv ends soon with one line that contains all words."""
        who = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        before = mount_entry(self.mnt)
        argv = [a if a != "-f" or foreground else "-ohold=read" for a in argv]
        done = subprocess.run(argv, capture_output=True, text=True, cwd="/",
                              stdin=subprocess.DEVNULL, timeout=procs.seconds(10), **who)
        assert done.returncode > 0, done.stderr
        assert not done.stdout
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith(("rwwfs: ", "fusermount3: "))
        for word in words:
            assert word in lines[0]
        assert mount_entry(self.mnt) == before
        return lines[0]

    def refuse_options(self, options, *words):
        return self.refuse([BINARY, "-f", "-o", options, self.store, self.mnt], *words)


@pytest.fixture
def place(base):
    place = Place(base)
    yield place
    mounts.rescue(place.mnt)
    mounts.rescue(place.store)
    mounts.remove_tree(place.base)


both = pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])


@both
def test_missing_store(place, foreground):
    missing = place.path("missing")
    place.refuse([BINARY, "-f", missing, place.mnt], missing, "No such file", foreground=foreground)


def test_store_that_is_a_file(place):
    file = place.path("file", "x")
    place.refuse([BINARY, "-f", file, place.mnt], file, "irectory")


@pytest.mark.modes("off")
def test_store_on_an_rwwfs_mount(place, mount):
    store = mount.path("store")
    mount.probe.call(os.mkdir, store)
    place.refuse([BINARY, "-f", store, place.mnt], store, "on an rwwfs mount")


def test_mount_point_inside_the_store(place):
    inside = os.path.join(place.store, "mnt")
    os.mkdir(inside)
    place.refuse([BINARY, "-f", place.store, inside],
                 f"mountpoint {inside}: inside the store {place.store}")


@both
def test_missing_mount_point(place, foreground):
    missing = place.path("missing")
    place.refuse([BINARY, "-f", place.store, missing], missing, "No such file",
                 foreground=foreground)


def test_mount_point_that_is_a_file(place):
    file = place.path("file", "x")
    place.refuse([BINARY, "-f", place.store, file], file, "irectory")


@pytest.mark.parametrize("count", [0, 3])
def test_wrong_number_of_arguments(place, count):
    line = place.refuse([BINARY, "-f", *[place.store] * count])
    assert "usage" in line.lower() or "STORE" in line or "argument" in line


def test_unknown_flag(place):
    place.refuse([BINARY, "-Z", place.store, place.mnt], "-Z")


@pytest.mark.parametrize("option", ["frobnicate", "frobnicate=7", "holds=read"])
def test_unknown_option(place, option):
    place.refuse_options(option, option.split("=")[0])


@pytest.mark.parametrize("option, expected", [
    ("passthrough=maybe", ("auto", "on", "off")),
    ("passthrough=", ("auto", "on", "off")),
    ("hold=forever", ("read", "open", "none")),
    ("hold=READ", ("read", "open", "none")),
    ("nonblock=yes", ("plain", "hold")),
    ("hold_timeout=soon", ("second",)),
    ("hold_timeout=-1", ("second",)),
    ("hold_timeout=5x", ("second",)),
    ("hold_timeout=", ("second",)),
    ("hold_timeout=99999999999999999999", ("second",)),
])
def test_malformed_option(place, option, expected):
    """The line quotes the option and the value, and says what was expected."""
    key, _, value = option.partition("=")
    place.refuse_options(option, key, value, *expected)


def test_pidfile_that_cannot_be_written(place):
    path = place.path("missing/pid")
    place.refuse_options(f"pidfile={path}", path, "No such file")


@needs_root
@both
def test_pidfile_inside_the_mountpoint(place, foreground):
    """It would wait for the mount, which waits for it."""
    path = os.path.join(place.mnt, "pid")
    place.refuse([BINARY, "-f", "-o", f"pidfile={path}", place.store, place.mnt],
                 f"pidfile {path}: inside the mountpoint {place.mnt}", foreground=foreground)


@needs_root
@both
def test_mount_point_in_use(place, make_mount, foreground):
    other = make_mount("off")
    line = place.refuse([BINARY, "-f", place.store, other.mnt], other.mnt, foreground=foreground)
    assert "use" in line or "mounted" in line
    other.write_file("f", b"hello")
    assert other.stored_bytes("f") == b"hello"


@both
def test_second_daemon_on_a_store_is_refused(mode, place, make_mount, foreground):
    first = make_mount(mode)
    argv = [BINARY, "-f", first.store, place.mnt]
    line = place.refuse(argv, first.store, uid=first.uid, foreground=foreground)
    assert "mounted" in line or "in use" in line or "another" in line
    link = place.path("link")
    os.symlink(first.store, link)
    place.refuse([BINARY, "-f", link, place.mnt], uid=first.uid)
    first.write_file("f", b"hello")
    first.end_users()
    first.unmount()
    assert first.wait() == 0
    again = make_mount(mode, store=first.store)
    assert again.reader("f").read_all() == b"hello"


@needs_root
def test_second_daemon_over_itself_is_refused(place, make_mount):
    first = make_mount("off", over_itself=True)
    entry = mount_entry(first.mnt)
    place.refuse([BINARY, "-f", first.store], first.store)
    assert mount_entry(first.mnt) == entry


@needs_root
def test_a_killed_daemon_does_not_keep_the_store(place, make_mount):
    first = make_mount("off")
    first.kill()
    first.wait()
    mounts.rescue(first.mnt)
    make_mount("off", store=first.store)


# -- what the system lacks


def in_namespace(script, argv, user=False):
    """Run argv after a shell script, in a mount namespace of its own."""
    drop = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups " if user else ""
    return ["unshare", "-m", "sh", "-ec", f'{script}\nexec {drop}"$@"', "sh", *argv]


EMPTY_DEV = ("mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5;"
             "mknod -m 666 /dev/urandom c 1 9; ln -s /proc/self/fd /dev/fd;")
CLOSED_FUSE = "mount -t tmpfs none /mnt; mknod -m 600 /mnt/fuse c 10 229; mount -B /mnt/fuse /dev/fuse"
# Hides fusermount3 wherever it may be.
NO_FUSERMOUNT = """
mount -t tmpfs none /mnt
for d in /usr/bin /usr/local/bin; do
  mkdir -p /mnt$d/upper /mnt$d/work
  mknod /mnt$d/upper/fusermount3 c 0 0
  mount -t overlay -o lowerdir=$d,upperdir=/mnt$d/upper,workdir=/mnt$d/work none $d
done
"""


@needs_root
@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_no_dev_fuse(place, user):
    place.refuse(in_namespace(EMPTY_DEV, [BINARY, "-f", place.store, place.mnt], user), "/dev/fuse")


@needs_root
def test_no_permission_for_dev_fuse(place):
    argv = [BINARY, "-f", place.store, place.mnt]
    place.refuse(in_namespace(CLOSED_FUSE, argv, True), "/dev/fuse", "ermi")


@needs_root
def test_fusermount3_missing(place):
    os.chown(place.mnt, NOBODY, NOBODY)
    argv = [BINARY, "-f", place.store, place.mnt]
    place.refuse(in_namespace(NO_FUSERMOUNT, argv, True), "fusermount3")


@needs_root
@both
def test_no_permission_for_the_mount_point(place, foreground):
    os.chmod(place.mnt, 0o755)
    argv = [BINARY, "-f", place.store, place.mnt]
    place.refuse(argv, place.mnt, "ermi", uid=NOBODY, foreground=foreground)


@needs_root
def test_no_permission_for_the_store(place):
    os.chmod(place.store, 0o700)
    os.chown(place.mnt, NOBODY, NOBODY)
    place.refuse([BINARY, "-f", place.store, place.mnt], place.store, "ermission denied", uid=NOBODY)


@needs_root
def test_passthrough_on_without_the_privilege(place):
    os.chown(place.mnt, NOBODY, NOBODY)
    argv = [BINARY, "-f", "-o", "passthrough=on", place.store, place.mnt]
    place.refuse(argv, "passthrough=on", uid=NOBODY)


@needs_root
def test_allow_other_without_permission(place):
    with open("/etc/fuse.conf") as f:
        if any(line.strip() == "user_allow_other" for line in f):
            pytest.skip("fuse.conf: users may use allow_other here")
    os.chown(place.mnt, NOBODY, NOBODY)
    argv = [BINARY, "-f", "-o", "allow_other", place.store, place.mnt]
    place.refuse(argv, "allow_other", uid=NOBODY)
