# SPDX-License-Identifier: MIT
"""Listeners of fanotify(7): the kernel opens files for them, within their read(2)."""
import ctypes
import os
import struct

import pytest

pytestmark = [pytest.mark.sysfuse, pytest.mark.modes("on", "off")]  # root's

FAN_CLASS_CONTENT, FAN_MARK_ADD_MOUNT = 0x4, 0x11
FAN_MODIFY, FAN_OPEN_PERM, FAN_ALLOW = 0x2, 0x10000, 1


def fanotify(path):
    """A listener that is asked whether files of the mount may be opened, and told of writes."""
    libc = ctypes.CDLL(None, use_errno=True)
    fan = libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY)
    events = ctypes.c_uint64(FAN_OPEN_PERM | FAN_MODIFY)
    if fan < 0 or libc.fanotify_mark(fan, FAN_MARK_ADD_MOUNT, events, -1, os.fsencode(path)) < 0:
        raise OSError(ctypes.get_errno(), "fanotify")
    return fan


def next_event(fan):
    """What happened, and all that can be read then."""
    _, _, mask, fd, _ = struct.unpack("=IIQii", os.read(fan, 24))
    data = os.read(fd, 100)
    if mask == FAN_OPEN_PERM:
        os.write(fan, struct.pack("=iI", fd, FAN_ALLOW))
    os.close(fd)
    return mask, data


@pytest.mark.sanitize
@pytest.mark.parametrize("hold", [pytest.param("read", marks=pytest.mark.options("hold=read")),
                                  pytest.param("open", marks=pytest.mark.options("hold=open"))])
def test_a_listener_of_fanotify_waits_for_nobody(mount, hold):
    """The kernel opens for it, within read(2), and a writer waits for its answer."""
    listener = mount.agent()
    fan = listener.call(fanotify, mount.mnt)
    event = listener.begin(next_event, fan)
    opening = mount.agent().begin(os.open, mount.path("f"), os.O_WRONLY | os.O_CREAT)
    assert event.result() == (FAN_OPEN_PERM, b"")
    fd = opening.result()
    event = listener.begin(next_event, fan)
    opening.agent.call(os.write, fd, b"hello")
    assert event.result() == (FAN_MODIFY, b"hello")
    listener.call(os.close, fan)


@pytest.mark.parametrize("options", ["hold=read", "hold=open"])
def test_a_listener_of_fanotify_that_is_kept_from_the_processor(mode, make_mount, helper, options):
    """Its request is served before it gets to wait for the answer."""
    preload = helper("not_asleep", "-shared", "-fPIC")
    mount = make_mount(mode, options, wrapper=("env", f"LD_PRELOAD={preload}"))
    listener = mount.agent()
    fan = listener.call(fanotify, mount.mnt)
    event = listener.begin(next_event, fan)
    opening = mount.agent().begin(os.open, mount.path("f"), os.O_WRONLY | os.O_CREAT)
    assert event.result() == (FAN_OPEN_PERM, b"")
    opening.result()
    listener.call(os.close, fan)
