# SPDX-License-Identifier: MIT
"""The same scenario in a folder of the store's filesystem and in a folder on the mount.

A scenario is a function of a folder that returns what it saw. What an ordinary filesystem shows is
the expectation; nothing about it is written down twice.
"""
import os

from . import procs

USER, OTHER, GROUP = 1234, 1235, 2345  # numbers without names


def outcome(func, *args, **kwargs):
    """What a call returned, or the name of its errno."""
    try:
        value = func(*args, **kwargs)
    except OSError as e:
        return procs.name_of(e.errno)
    return "ok" if value is None else value


def look(path, *more, follow=False):
    """What does not differ between two filesystems: type and mode, links, owners, size."""
    try:
        st = os.stat(path, follow_symlinks=follow)
    except OSError as e:
        return procs.name_of(e.errno)
    size = None if os.path.isdir(path) and not os.path.islink(path) else st.st_size
    return (oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size,
            *(getattr(st, field) for field in more))


def touch(path, flags=os.O_WRONLY | os.O_CREAT, mode=0o644, data=b""):
    fd = os.open(path, flags, mode)
    try:
        if data:
            os.write(fd, data)
    finally:
        os.close(fd)


class Pair:
    """An ordinary folder and one on the mount."""

    def __init__(self, mount):
        self.mount = mount
        self.plain = os.path.join(mount.base, "plain")
        self.count = 0
        for path in (self.plain,):
            os.mkdir(path)
            if mount.uid is not None:
                os.chown(path, mount.uid, mount.uid)

    def folders(self, mode=0o777):
        self.count += 1
        made = []
        for root in (self.plain, self.mount.mnt):
            path = os.path.join(root, f"pair{self.count}")
            self.mount.probe.call(os.mkdir, path)
            self.mount.probe.call(os.chmod, path, mode)
            made.append(path)
        return made

    def compare(self, scenario, *args, who=None, timeout=20):
        """Run it in both; who: {uid, gid, groups, umask} of the caller."""
        plain, mounted = self.folders()
        expected = self.mount.agent(**(who or {})).call(scenario, plain, *args, timeout=timeout)
        got = self.mount.agent(**(who or {})).call(scenario, mounted, *args, timeout=timeout)
        assert expected, "a scenario must see something"
        if isinstance(expected, dict):
            wrong = {k: (expected[k], got.get(k)) for k in expected if expected[k] != got.get(k)}
            assert not wrong, f"(ordinary filesystem, mount): {wrong}"
        assert got == expected
        return expected
