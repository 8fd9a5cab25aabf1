# SPDX-License-Identifier: MIT
"""Names and inodes, against libfuse's own low-level example on the same store.

passthrough_ll keeps a descriptor for every inode that the kernel knows. Where the limit does not
allow one for each of the files, find goes over the tree in pieces, caches dropped before each, for
both alike.
"""
import contextlib
import os
import resource
import subprocess
import time

from .figures import Row, Skipped, fifths, median, speed_ratio, times
from .place import Failed, Unavailable, drop_caches

# What it is called, what it does (the test makes find stat every file), rounds
FINDS = (("names", (), 9), ("and stat", ("-size", "+1000000c"), 4))


def find(place, quick):
    files = 1000
    dirs = 15 if quick else 100
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = max(1, min(dirs, (descriptors - 1000) // files))
    with place.mount() as ours, place.mount(ours.store, example="ll") as example:
        place.lines("tree", ours.store, dirs, files)
        os.sync()
        names = sorted(os.listdir(ours.store))
        for what, test, rounds in FINDS:
            cold, warm = ([], []), ([], [])
            for round_ in range(3 if quick else rounds):
                # Each is measured right after its own cold run, so the order may matter: change it.
                order = ((0, ours), (1, example))
                for k, daemon in order[::-1] if round_ % 2 else order:
                    cold_ns, warm_ns = _find_in_pieces(daemon, names, at_once, test,
                                                       (ours, example))
                    if round_:
                        cold[k].append(cold_ns)
                        warm[k].append(warm_ns)
            for state, taken in (("cold", cold), ("warm", warm)):
                yield speed_ratio(f"find over {dirs * files:,} files, {what}, {state}", *taken, 1.0,
                                  times)


def _find_in_pieces(daemon, names, at_once, test, daemons):
    cold = warm = 0
    for start in range(0, len(names), at_once):
        paths = [os.path.join(daemon.mnt, name) for name in names[start:start + at_once]]
        drop_caches()
        for d in daemons:
            d.settle()
        cold += _find(paths, test)
        warm += _find(paths, test)
    return cold, warm


def _find(paths, test):
    started = time.monotonic_ns()
    done = subprocess.run(["find", *paths, *test], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False)
    taken = time.monotonic_ns() - started
    if done.returncode or done.stderr:
        raise Failed(f"find: {done.stderr.decode()[:200]}")
    return taken


def small_files(place, quick):
    """Against both of libfuse's low-level examples: hp leaves the data to the kernel and has it
    check permissions, as rwwfs does; ll checks when it is told to, and is not asked for a folder's
    attributes twice for each file when not. Each round is a program of its own for each: the kernel
    remembers of a program whom it wakes, and one that has been answered by the many threads of an
    example is served worse by all others for a while."""
    count, batch, rounds = (10_000 if quick else 50_000), 500, 10
    what = f"create+write+close+unlink of {count:,} files"
    folders, rows = [], []
    with contextlib.ExitStack() as mounts:
        ours = mounts.enter_context(place.mount())

        def add(top):
            os.mkdir(os.path.join(ours.store, f"folder-{len(folders)}"))
            folders.append(os.path.join(top, f"folder-{len(folders)}"))

        add(ours.mnt)
        for name, example, options, target in (
                ("passthrough_hp", "hp", "", 1.0),
                ("passthrough_ll told to check permissions", "ll", ",default_permissions", 1.0),
                ("passthrough_ll", "ll", "", 1.0)):
            try:
                add(mounts.enter_context(place.mount(ours.store, example, options)).mnt)
            except Unavailable as e:
                yield Skipped(f"{what} / {name}", str(e))
            else:
                rows.append((name, target))
        add(ours.store)
        rows.append(("store directly", None))
        taken = [[] for _ in folders]
        for round_ in range(rounds):
            order = list(enumerate(folders))
            for k, folder in order[::-1] if round_ % 2 else order:
                taken[k] += [int(ns) for (ns,) in
                             place.lines("cycle", count // rounds, batch, 1024, folder)]
        for (name, target), other in zip(rows, taken[1:]):
            yield speed_ratio(f"{what} / {name}", taken[0], other, target,
                              lambda ns: times(ns / batch) + " each")


def marker(place, quick):
    """What remembering a growing file costs the store: the attribute is set, then removed."""
    count, batch = (10_000 if quick else 50_000), 500
    with place.mount() as ours:
        folders = [os.path.join(ours.store, name) for name in ("marked", "plain")]
        for folder in folders:
            os.mkdir(folder)
        marked, plain = zip(*([int(ns) / batch for ns in line] for line in
                              place.lines("cycle", count, batch, 1024, "+" + folders[0], folders[1])))
        parts = [median(marked[f]) - median(plain[f]) for f in fifths(len(plain))]
        yield Row("the marker of a file in the store", (median(marked) - median(plain)) / 1000, " µs",
                  times(median(marked)), times(median(plain)) + " without it",
                  (min(parts) / 1000, max(parts) / 1000), ("<=", 15))


def inodes(place, quick):
    dirs, files = (100 if quick else 1000), 1000
    count = dirs * files
    with place.tmpfs(f"size=100%,nr_inodes={count + 10_000}") as store:
        with place.mount(store) as daemon:
            os.listdir(daemon.mnt)
            before = daemon.rss()
            place.lines("tree", store, dirs, files)
            taken = _find([daemon.mnt], FINDS[1][1])
            daemon.settle()
            yield Row(f"daemon memory per known inode, {count:,} known",
                      (daemon.rss() - before) / count, " B", f"found in {times(taken)}",
                      target=("<=", 300))
