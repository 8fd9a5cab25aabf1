# SPDX-License-Identifier: MIT
"""rww-httpd, beside nginx on the same mount and a Go server that writes what it serves."""
import contextlib
import os
import resource
import subprocess
import time

from .figures import Row, median, percentile, times
from .place import PROGRAMS, Failed, Unavailable, cpu
from .servers import fanserver, nginx, rww_httpd


def pairs(name, ours, reference, target, show, more_is_better=False):
    """The median of the ratios of pairs measured one after the other: how good we are."""
    ratios = [a / b if more_is_better else b / a for a, b in zip(ours, reference)]
    return Row(name, median(ratios), ours=show(median(ours)), reference=show(median(reference)),
               spread=(min(ratios), max(ratios)), target=target and (">=", target))


def in_turn(rounds, *measures):
    """What each measure gave in each round; who is first changes."""
    taken = [[] for _ in measures]
    for round_ in range(rounds):
        order = list(enumerate(measures))
        for k, measure in order[::-1] if round_ % 2 else order:
            taken[k].append(measure())
    return taken


def speed(unit, scale):
    return lambda value: f"{value / scale:,.{0 if value / scale >= 100 else 2}f} {unit}"


# --- complete files ------------------------------------------------------------------------------

# Name, size, connections of wrk, transfers of curl over one connection, what is wanted.
FILES = (("1 KiB", 1 << 10, 64, 1500, 0.8), ("1 MiB", 1 << 20, 16, 150, 1.0),
         ("1 GiB", 1 << 30, 4, 1, 1.0))


def files(place, quick):
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(place.mount())
        ours = stack.enter_context(rww_httpd(place, daemon.mnt))
        reference = stack.enter_context(nginx(place, daemon.mnt))
        for name, size, connections, repetitions, target in FILES:
            _fill(os.path.join(daemon.store, "file"), size)
            seconds = (1 if quick else 2) * (2 if size >> 30 else 1)
            taken = in_turn(3 if quick else 9,
                            lambda: _wrk(ours.port, size, connections, seconds),
                            lambda: _wrk(reference.port, size, connections, seconds))
            show = speed("GB/s", 1e9) if size >> 20 else speed("requests/s", size)
            yield pairs(f"{name} files, wrk, {connections} connections", *taken, target, show, True)
            taken = in_turn(3 if quick else 9, lambda: _curl(ours.port, size, repetitions),
                            lambda: _curl(reference.port, size, repetitions))
            yield pairs(f"{name} files, curl, one connection", *taken, target, show, True)


def _fill(path, size):
    block = os.urandom(min(size, 1 << 20))
    with open(path, "wb") as f:
        for _ in range(size // len(block)):
            f.write(block)


def _wrk(port, size, connections, seconds):
    """Bytes of bodies per second."""
    try:
        done = subprocess.run(["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s", "-s",
                               os.path.join(PROGRAMS, "wrk.lua"), f"http://127.0.0.1:{port}/file"],
                              check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise Unavailable("needs wrk") from None
    figures = next(line for line in done.stdout.splitlines() if line.startswith("figures "))
    requests, received, microseconds, failures = map(int, figures.split()[1:])
    if failures:
        raise Failed(f"wrk counted {failures} failures")
    return (requests * size if size < 1 << 20 else received) * 1e6 / microseconds


def _curl(port, size, repetitions):
    """The same, without the time curl itself needs to start."""
    url = f"http://127.0.0.1:{port}/file?[1-{repetitions}]"
    done = subprocess.run(["curl", "-sSf", "-o", "/dev/null", "-w",
                           "%{size_download} %{time_total}\n", url], check=True,
                          capture_output=True, text=True, timeout=120)
    lines = [line.split() for line in done.stdout.splitlines()]
    if [int(line[0]) for line in lines] != [size] * repetitions:
        raise Failed("curl did not get every file whole")
    return size * repetitions / sum(float(line[1]) for line in lines)


# --- files that grow -----------------------------------------------------------------------------


@contextlib.contextmanager
def fan(place):
    """Yields two functions with the same arguments, which run fanout.c: ours, theirs."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(place.mount())
        ours = stack.enter_context(rww_httpd(place, daemon.mnt))
        theirs = stack.enter_context(fanserver(place))

        def run(port, file, *args):
            return [int(n) for n in place.lines("fanout", port, "/fan", file, *args)[0]]

        yield (lambda *args: run(ours.port, os.path.join(daemon.mnt, "fan"), *args),
               lambda *args: run(theirs.port, "-", *args))


# Followers, rounds; what is wanted is said of 1,000, and of files that just grow: of one with a
# declared size the Go server leaves the bytes to the kernel, by sendfile(2).
FOLLOWERS = ((1, 5), (100, 5), (1000, 9))


def fanout(place, quick):
    records = 100 if quick else 200
    with fan(place) as (ours, theirs):
        for declared, how in ((0, "chunked"), (1, "size declared")):
            for count, rounds in FOLLOWERS:
                if declared and count < 1000:
                    continue
                args = (count, records, 4096, 100, declared)
                taken = in_turn(3 if quick else rounds, lambda: ours(*args), lambda: theirs(*args))
                for k, name in enumerate(("p50", "p99")):
                    yield pairs(f"write() to recv() {name}, {how}, followers: {count:,}",
                                *([t[k] for t in side] for side in taken),
                                2 if count == 1000 and not declared else None, times)


def flat(place, quick):
    megabytes = 50 if quick else 200
    with fan(place) as (ours, theirs):
        for declared, how in ((0, "chunked"), (1, "size declared")):
            args = (20, megabytes, 1 << 20, 0, declared)
            taken = in_turn(3 if quick else 7, lambda: ours(*args), lambda: theirs(*args))
            yield pairs(f"{megabytes} MiB written flat out to 20 followers, {how}",
                        *([n / ns for ns, n in side] for side in taken), None if declared else 1.2,
                        lambda rate: f"{rate:.2f} GB/s", True)


def first(place, quick):
    with place.mount() as daemon, rww_httpd(place, daemon.mnt) as server:
        for name in ("complete", "growing"):
            _fill(os.path.join(daemon.store, name), 4096)
        with open(os.path.join(daemon.mnt, "growing"), "ab", buffering=0) as growing:
            growing.write(bytes(4096))
            lines = place.lines("first", server.port, 300 if quick else 2000, "/complete",
                                "/growing")
        complete, grows = ([int(line[k]) for line in lines] for k in (0, 1))
        for name, share in (("p50", 0.50), ("p99", 0.99)):
            a, b = percentile(grows, share), percentile(complete, share)
            yield Row(f"first byte of a growing file {name}, over a complete one", (a - b) / 1e6,
                      " ms", times(a), times(b), target=("<=", 1))


# --- many who wait -------------------------------------------------------------------------------


def kernel_memory():
    """Bytes of the whole machine: slab, page tables, stacks, and what TCP holds in its buffers. Both
    ends of a connection are in it, the client's too."""
    wanted = ("Slab", "PageTables", "KernelStack")
    with open("/proc/meminfo") as f:
        kib = sum(int(line.split()[1]) for line in f if line.split(":")[0] in wanted)
    with open("/proc/net/sockstat") as f:
        words = next(line for line in f if line.startswith("TCP:")).split()
    return 1024 * kib + resource.getpagesize() * int(words[words.index("mem") + 1])


def idle(place, quick):
    count, seconds = (2000, 3) if quick else (10_000, 10)
    _, files_allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_allowed < count + 200:
        raise Unavailable(f"needs {count + 200} descriptors in a process, {files_allowed} allowed")
    with place.mount() as daemon, rww_httpd(place, daemon.mnt) as server:
        with open(os.path.join(daemon.mnt, "growing"), "wb", buffering=0) as growing:
            growing.write(b"line\n")
            _follow_and_leave(place, server, 200)  # threads and buffers are all there
            before, kernel_before = server.pss() + daemon.rss(), kernel_memory()
            helper = place.helper("idle", server.port, "/growing", count, talk=True)
            if helper.words() != ["following"]:
                raise Failed("idle said something else")
            own, kernel = server.pss() + daemon.rss() - before, kernel_memory() - kernel_before
            before, clock = cpu(server.pid) + daemon.cpu(), time.monotonic()
            time.sleep(seconds)
            share = (cpu(server.pid) + daemon.cpu() - before) / (time.monotonic() - clock)
            helper.go()
            helper.finish()
        yield Row(f"memory of an idle follower, {count:,} of one file",
                  (own + kernel) / count / 1024, " KiB", f"server {own / count / 1024:.1f} KiB",
                  f"kernel {kernel / count / 1024:.1f} KiB", target=("<=", 24))
        yield Row("processor for all of them", 100 * share, " %", f"{server.threads()} threads",
                  target=("<=", 1))


def _follow_and_leave(place, server, count):
    helper = place.helper("idle", server.port, "/growing", count, talk=True)
    helper.words()
    helper.go()
    helper.finish()
