# SPDX-License-Identifier: MIT
"""A private mount namespace for the whole pytest run.

Whatever is mounted by a test disappears with pytest. /dev/fuse is 0600 on machines without udev;
inside the namespace a 0666 node lies over it, so that unprivileged daemons work and the real node
is left alone. Enter before any test starts a process.
"""
import ctypes
import os
import stat

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

FUSECTL = "/sys/fs/fuse/connections"


def _check(rc, what):
    if rc != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{what}: {os.strerror(err)}")


def mount(source, target, fstype, flags=0, data=None):
    _check(libc.mount(os.fsencode(source), os.fsencode(target), fstype and fstype.encode(), flags,
                      data and data.encode()), f"mount {source} on {target}")


def bind(source, target):
    mount(source, target, None, MS_BIND)


def umount(target, flags=0):
    _check(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def unshare_mounts():
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def enter(scratch):
    """Move this process into its own mount namespace; scratch is an empty directory to use."""
    if os.geteuid() != 0:
        return
    unshare_mounts()
    if stat.S_IMODE(os.stat("/dev/fuse").st_mode) & 0o006 != 0o006:
        mount("tmpfs", scratch, "tmpfs", 0, "mode=755,size=64k")
        node = os.path.join(scratch, "fuse")
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        os.chmod(node, 0o666)
        bind(node, "/dev/fuse")
    if not os.path.isdir(FUSECTL) or not os.path.ismount(FUSECTL):
        mount("fusectl", FUSECTL, "fusectl")
