# SPDX-License-Identifier: MIT
"""Held reads: wake-up, memory and threads, many growing files, fairness to others."""
import contextlib
import os
import threading
import time

from .figures import Row, fifths, percentile, times
from .place import Failed, wait_until


def latency(place, quick):
    samples = 1200 if quick else 5000
    with place.mount() as daemon:
        for busy, when in ((0, "idle"), (1, "one core busy")):
            lines = place.lines("latency", os.path.join(daemon.store, "in-store"),
                                os.path.join(daemon.mnt, "in-mount"), samples, busy)
            store, mount = ([int(line[k]) for line in lines] for k in (0, 1))
            for name, share, target in (("p50", 0.50, 3), ("p99", 0.99, 5)):
                yield _latency_row(f"wake-up {name}, {when}", mount, store, share, target)


def _latency_row(name, mount, store, share, target):
    parts = [percentile(mount[f], share) / percentile(store[f], share) for f in fifths(len(mount))]
    ours, reference = percentile(mount, share), percentile(store, share)
    return Row(name, ours / reference, "×", times(ours), times(reference),
               (min(parts), max(parts)), ("<=", target))


# What the daemon may have, however many reads are held: 16 workers, one that waits for them, and
# four threads of its own. libfuse starts workers as requests overlap, so fewer may be there before.
THREADS = 21

# --- 10,000 at once ------------------------------------------------------------------------------


def held_reads(daemon, names):
    return sum(int(os.getxattr(os.path.join(daemon.mnt, n), "user.rww.readers")) for n in names)


class Growing:
    """Files that grow, written by us through the mount."""

    def __init__(self, daemon, count):
        self.daemon = daemon
        self.names = [f"growing-{i}" for i in range(count)]
        self.paths = [os.path.join(daemon.mnt, name) for name in self.names]
        self.fds = []

    def __enter__(self):
        for path in self.paths:
            self.fds.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND))
        self.append()
        return self

    def append(self):
        for fd in self.fds:
            os.write(fd, b"line\n")

    def __exit__(self, *_):
        for fd in self.fds:
            os.close(fd)


class Held:
    """Reads held on growing files, each in a thread and with a handle of its own."""

    def __init__(self, place, growing, processes, threads):
        self.growing, self.count = growing, processes * threads
        self.helper = place.helper("hold", processes, threads, *growing.paths, talk=True)
        if self.helper.words() != ["opened"]:
            raise Failed("hold said something else")

    def hold(self):
        self.helper.go()
        daemon, names = self.growing.daemon, self.growing.names
        wait_until(lambda: held_reads(daemon, names) == self.count,
                   f"{self.count} held reads", 60)

    def woken(self):
        """When the first, the middle and the last returned, once they were written to."""
        word, *when = self.helper.words()
        if word != "woke":
            raise Failed("hold said something else")
        return [int(w) for w in when]

    def leave(self):
        self.helper.go()
        self.helper.finish()


def held(place, quick):
    processes, threads = (4, 500) if quick else (10, 1000)
    count = processes * threads
    with place.mount() as daemon:
        with Growing(daemon, 1) as growing:
            warm = Held(place, growing, 1, 200)  # the daemon's threads and buffers are all there
            warm.hold()
            growing.append()
            warm.woken()
            warm.leave()
        os.unlink(growing.paths[0])
        with Growing(daemon, 1) as growing:
            before, threads_before = daemon.rss(), daemon.threads()
            readers = Held(place, growing, processes, threads)
            opened = daemon.rss()
            readers.hold()
            holding, threads_holding = daemon.rss(), daemon.threads()
            started = time.monotonic_ns()
            growing.append()
            first, middle, last = (t - started for t in readers.woken())
            threads_after = daemon.threads()
            readers.leave()
        most = max(threads_holding, threads_after)
        yield Row(f"daemon memory per held read, {count:,} held", (holding - opened) / count, " B",
                  target=("<=", 512))
        yield Row("the same with its open handle", (holding - before) / count, " B")
        yield Row(f"daemon threads, {count:,} held", most, "", reference=f"before {threads_before}",
                  target=("<=", THREADS))
        yield Row(f"one write wakes all {count:,}: the last after", last / 1e6, " ms",
                  f"first {times(first)}", f"half {times(middle)}")


def grow(place, quick):
    seconds = 4 if quick else 10
    with place.mount() as daemon:
        helper = place.helper("grow", daemon.mnt, 1000, 4, 10, seconds)
        if helper.words() != ["measure"]:
            raise Failed("grow said something else")
        cpu, clock = daemon.cpu(), time.monotonic()
        with sampling(daemon) as parts:
            helper.words()
            share = (daemon.cpu() - cpu) / (time.monotonic() - clock)
        answers = {w[0]: [int(x) for x in w[1:]] for w in map(str.split, helper.finish())}
        yield Row("1,000 growing files, a follower each, 10 writes/s: daemon", share, " cores",
                  spread=(min(parts), max(parts)), target=("<=", 0.5))
        p50, p99, _ = answers["delay"]
        yield Row("their wake-up p99", p99 / 1e6, " ms", f"p50 {times(p50)}",
                  f"writer late p99 {times(answers['late'][1])}")


@contextlib.contextmanager
def sampling(daemon):
    """Yields a list that gets the daemon's share of a core for each second."""
    done, parts = threading.Event(), []

    def sample():
        cpu, clock = daemon.cpu(), time.monotonic()
        while not done.wait(1):
            cpu_now, clock_now = daemon.cpu(), time.monotonic()
            parts.append((cpu_now - cpu) / (clock_now - clock))
            cpu, clock = cpu_now, clock_now

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield parts
    finally:
        done.set()
        sampler.join()


# --- others on the same mount --------------------------------------------------------------------


def others(place, quick):
    rounds = 800 if quick else 3000
    with place.mount() as daemon:
        for i in range(50):
            with open(os.path.join(daemon.store, f"complete-{i}"), "wb") as f:
                f.write(os.urandom(65536))
        yield from _probe(place, daemon, rounds, "nothing held", None)
        with Growing(daemon, 20) as growing:
            readers = Held(place, growing, 2, 500)
            readers.hold()
            yield from _probe(place, daemon, rounds, "1,000 reads held", 10)
            growing.append()
            readers.woken()
            readers.leave()


def _probe(place, daemon, rounds, when, target):
    took = {}
    for name, ns in place.lines("probe", daemon.mnt, rounds):
        took.setdefault(name, []).append(int(ns))
    p99 = {name: percentile(ns, 0.99) / 1e6 for name, ns in took.items()}
    worst = max(p99, key=p99.get)
    yield Row(f"others' p99, {when}: worst is {worst}", p99[worst], " ms",
              " ".join(f"{name} {times(ms * 1e6)}" for name, ms in p99.items()),
              spread=(min(p99.values()), max(p99.values())), target=target and ("<=", target))
