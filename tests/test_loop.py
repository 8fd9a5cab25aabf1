# SPDX-License-Identifier: MIT
"""One program that asks one thing after the other, crowds, and what changes from one to the other."""
import contextlib
import os
import signal

import pytest

from harness import procs

IN_TURNS = 12


def cycle(folder, rounds):
    """Files that are made, written, read and removed; how many were as they should be."""
    good = 0
    for k in range(rounds):
        path, data = os.path.join(folder, f"{k % 7}"), b"%d" % k * 100
        with open(path, "xb", buffering=0) as f:
            f.write(data)
        with open(path, "rb", buffering=0) as f:
            good += f.read() == data
        os.unlink(path)
    return good


def cycle_until_it_ends(folder):
    """Says that it has begun, and the error that ended it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.join(folder, "begun"))
    try:
        while True:
            cycle(folder, 1)
    except OSError as e:
        return e.errno


def folders(mount, count=IN_TURNS):
    paths = [mount.path(f"folder-{k}") for k in range(count)]
    for path in paths:
        mount.probe.call(os.mkdir, path)
    return paths


@pytest.mark.sanitize
@pytest.mark.sysfuse
def test_alone_and_in_a_crowd(mount):
    """By turns, so that some wait for requests as of a crowd, when there is none any more."""
    places = folders(mount)
    agents = [mount.agent() for _ in places]
    for _ in range(3):
        assert agents[0].call(cycle, places[0], 100, timeout=60) == 100
        pending = [agent.begin(cycle, place, 30) for agent, place in zip(agents, places)]
        assert [p.result(60) for p in pending] == [30] * len(places)
    assert all(os.listdir(mount.stored(os.path.basename(place))) == [] for place in places)


@pytest.mark.sanitize
@pytest.mark.sysfuse
@pytest.mark.parametrize("how", ["SIGTERM", "umount -l"])
@pytest.mark.parametrize("count", [1, IN_TURNS])
def test_it_ends_in_the_middle_of_requests(mount, count, how):
    places = folders(mount, count)
    agents = [mount.agent() for _ in places]
    pending = [agent.begin(cycle_until_it_ends, place) for agent, place in zip(agents, places)]
    for place in places:
        begun = os.path.join(mount.stored(os.path.basename(place)), "begun")
        procs.wait_until(lambda path=begun: os.path.isdir(path), "it to have begun")
    if how == "SIGTERM":
        mount.kill(signal.SIGTERM)
    else:
        mount.unmount(lazily=True)
    assert mount.wait(10) == 0
    assert all(p.result(20) for p in pending)


def test_a_signal_that_its_parent_blocked(make_mount, mode):
    """SIGUSR1 has those who wait for requests leave."""
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])"
    mount = make_mount(mode, wrapper=(
        "/usr/bin/python3", "-c", f"import os, signal, sys; {block}; os.execvp(sys.argv[1], sys.argv[1:])"))
    mount.kill(signal.SIGTERM)
    assert mount.wait() == 0
