# SPDX-License-Identifier: MIT
"""Unmodified programs read a growing file to its real end.

All programs follow the same file at once; each has a case of its own below, so that a failure
names the program. What each must deliver is computed from the producer's data.
"""
import os
import random
import re
import signal
import subprocess
import time

import pytest

from harness import procs
from harness.agent import write_file
from harness.tools import file_sha256, need, produce, run, sha256

PYTHON = "/usr/bin/python3"


def text(size, seed):
    """Lines of numbers, so that sort, grep and awk have something to do."""
    rng = random.Random(seed)
    lines = []
    while size > 0:
        lines.append(b"%d %s\n" % (rng.randrange(10**6), b"x" * rng.randrange(90)))
        size -= len(lines[-1])
    return b"".join(lines)


DATA = text(400_000, 7)


def whole(data):
    return data


def lines_with_7(data):
    return b"".join(x for x in data.splitlines(True) if b"7" in x)


def sorted_lines(data):
    return b"".join(sorted(data.splitlines(True)))


def first_fields(data):
    return b"".join(x.split()[0] + b"\n" for x in data.splitlines())


def digest_line(data):
    return sha256(data).encode() + b"  -\n"


# name: (shell command with {f} the growing file, {o} the output, {d} a folder on the mount;
#        what the output must be)
PROGRAMS = {
    "cat": ("cat {f} > {o}", whole),
    "cat to a pipe": ("cat {f} | cat > {o}", whole),
    "cp out of the mount": ("cp {f} {o}", whole),
    "cp inside the mount": ("cp {f} {d}/copy && cp {d}/copy {o}", whole),
    "cp --sparse=never": ("cp --sparse=never {f} {o}", whole),
    "cp -a": ("cp -a {f} {o}", whole),
    "install": ("install -m 644 {f} {o}", whole),
    "dd": ("dd if={f} of={o} status=none", whole),
    "dd with large blocks": ("dd if={f} of={o} bs=4M status=none", whole),
    "tail -c +1": ("tail -c +1 {f} > {o}", whole),
    "tail -n +1": ("tail -n +1 {f} > {o}", whole),
    "head -c": ("head -c %d {f} > {o}" % (len(DATA) - 100), lambda data: data[:-100]),
    "head -n": ("head -n 3000 {f} > {o}", lambda data: b"".join(data.splitlines(True)[:3000])),
    "grep": ("grep --line-buffered 7 {f} > {o}", lines_with_7),
    "sed": ("sed -n p {f} > {o}", whole),
    "gawk": ("gawk '{{print $1}}' {f} > {o}", first_fields),
    "mawk": ("mawk '{{print $1}}' {f} > {o}", first_fields),
    "sort": ("LC_ALL=C sort {f} > {o}", sorted_lines),
    "tee": ("tee {o} < {f} > /dev/null", whole),
    "wc": ("wc -l < {f} > {o}", lambda data: b"%d\n" % data.count(b"\n")),
    "sha256sum": ("sha256sum < {f} > {o}", digest_line),
    "zstd": ("zstd -q -c {f} | zstd -q -dc > {o}", whole),
    # xz opens a named file with O_NONBLOCK: that is for nonblock=hold.
    "xz": ("xz -0 -c < {f} | xz -dc > {o}", whole),
    "split": ("split -b 10000 -a 3 {f} {o}. && cat {o}.* > {o}", whole),
    "busybox cat": ("busybox cat {f} > {o}", whole),
    "busybox cp": ("busybox cp {f} {o}", whole),
    "python read": (PYTHON + " -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], \"rb\")"
                    ".read())' {f} > {o}", whole),
    "python lines": (PYTHON + " -c 'import sys; [sys.stdout.write(x) for x in open(sys.argv[1])]'"
                     " {f} > {o}", whole),
    "python copyfile": (PYTHON + " -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' {f} {o}",
                        whole),
    "perl": ("perl -pe 1 {f} > {o}", whole),
    "perl copy": ("perl -MFile::Copy -e 'copy(@ARGV)' {f} {o}", whole),
    "node": ("UV_USE_IO_URING=0 node -e 'const fs = require(\"fs\"), a = process.argv;"
             " fs.createReadStream(a[1]).pipe(fs.createWriteStream(a[2]))' {f} {o}", whole),
    "pv": ("pv -q {f} > {o}", whole),
    "socat": ("socat -u OPEN:{f},rdonly OPEN:{o},creat,trunc", whole),
    "bash while read": ("bash -c 'while IFS= read -r x; do echo \"$x\"; done < {f} > {o}'", whole),
}
IN_USER_MODE = ("cat", "cp out of the mount", "cp inside the mount", "sha256sum", "python read",
                "zstd", "node")
OPENED = ("empty", "growing")


class Follow:
    """One growing file with all programs on it, and how each of them fared."""

    def __init__(self, mount, opened, names):
        self.outcome = {}
        out = os.path.join(mount.base, "out")
        mount.probe.call(os.mkdir, mount.path("copies"))
        os.mkdir(out)
        if mount.uid is not None:
            os.chown(out, mount.uid, mount.uid)
        writer = mount.writer("f")
        begun = 0 if opened == "empty" else 50_000
        if begun:
            writer.write(DATA[:begun])
        running = {}
        for i, name in enumerate(names):
            output = os.path.join(out, str(i))
            copies = mount.path(f"copies/{i}")
            mount.probe.call(os.mkdir, copies)
            command = PROGRAMS[name][0].format(f=mount.path("f"), o=output, d=copies)
            running[name] = (output, mount.popen(["sh", "-c", command], stderr=subprocess.PIPE))
        produce(writer, DATA[begun:begun + 50_000], 0.7)
        produce(writer, DATA[begun + 50_000:], 1.0)
        early = [name for name, (_, p) in running.items()
                 if p.poll() is not None and not name.startswith("head")]
        writer.close()
        for name, (output, program) in running.items():
            self.outcome[name] = self._end(program, output, name in early)

    @staticmethod
    def _end(program, output, early):
        try:
            _, err = program.communicate(timeout=procs.seconds(20))
        except subprocess.TimeoutExpired:
            return f"did not end\n{procs.dump(program.pid)}\n{procs.testimony()}", b""
        complaint = f"ended with {program.returncode}: {err.decode()}" \
            if program.returncode or err else "ended before the producer" if early else ""
        try:
            with open(output, "rb") as f:
                return complaint, f.read()
        except OSError as e:
            return complaint or str(e), b""


@pytest.fixture(scope="module")
def follow(base):
    """follow(mode, opened): run all programs once and keep the outcome."""
    from harness.mount import Mount
    kept = {}

    def get(mode, opened):
        if (mode, opened) not in kept:
            mount = Mount(base, mode)
            try:
                mount.start()
                names = IN_USER_MODE if mode == "user" else PROGRAMS
                kept[mode, opened] = Follow(mount, opened, names)
                assert mount.stored_bytes("f") == DATA
                mount.stop()
            except BaseException:
                mount.destroy()
                raise
        return kept[mode, opened]

    return get


@pytest.mark.sysfuse
@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("opened", OPENED)
def test_delivers_every_byte_and_ends(follow, mode, opened, name):
    check_delivery(follow, mode, opened, name)


@pytest.mark.sysfuse
@pytest.mark.modes("user")
@pytest.mark.parametrize("name", IN_USER_MODE)
@pytest.mark.parametrize("opened", OPENED)
def test_delivers_every_byte_to_a_user(follow, mode, opened, name):
    check_delivery(follow, mode, opened, name)


def check_delivery(follow, mode, opened, name):
    need(re.sub(r"^\w+=\w+ ", "", PROGRAMS[name][0]).split()[0])
    complaint, got = follow(mode, opened).outcome[name]
    assert not complaint
    assert sha256(got) == sha256(PROGRAMS[name][1](DATA)), f"{len(got)} bytes of {len(DATA)}"


def test_cp_into_the_mount(mount):
    source = os.path.join(mount.base, "source")
    with open(source, "wb") as f:
        f.write(DATA)
    copier = mount.popen(["cp", source, mount.path("f")])
    assert copier.wait(procs.seconds(10)) == 0
    assert mount.stored_bytes("f") == DATA
    assert mount.reader("f").read_all() == DATA


def test_a_chain_of_copies_follows_itself(mount):
    """Each cp inside the mount makes a file that the next one follows."""
    writer = mount.writer("0")
    writer.write(DATA[:1000])
    copiers = []
    for i in range(3):
        copiers.append(mount.popen(["cp", mount.path(str(i)), mount.path(str(i + 1))]))
        procs.wait_until(lambda: os.path.exists(mount.stored(str(i + 1))), f"copy {i + 1}")
    produce(writer, DATA[1000:100_000], 0.5)
    writer.close()
    for copier in copiers:
        assert copier.wait(procs.seconds(10)) == 0
    for i in range(4):
        assert mount.stored_bytes(str(i)) == DATA[:100_000]


@pytest.mark.options("nonblock=hold")
def test_programs_that_open_with_o_nonblock(mount):
    writer = mount.writer("f")
    output = os.path.join(mount.run, "out")
    xz = mount.popen(["sh", "-c", f"xz -0 -c {mount.path('f')} | xz -dc > {output}"],
                     stderr=subprocess.PIPE)
    produce(writer, DATA, 0.7)
    writer.close()
    _, err = xz.communicate(timeout=procs.seconds(10))
    assert not err
    assert file_sha256(output) == sha256(DATA)


def test_tail_f_shows_every_line(mount):
    if b"uutils" in run(["tail", "--version"]):
        pytest.skip("tail: that of uutils shows nothing before it meets an end")
    writer = mount.writer("f")
    out = os.path.join(mount.run, "out")
    with open(out, "wb") as stdout:
        tail = mount.popen(["tail", "-n", "+1", "-f", mount.path("f")], stdout=stdout)
    produce(writer, DATA[:100_000], 0.5)
    writer.close()
    procs.wait_until(lambda: os.path.getsize(out) == 100_000, "tail -f to show everything")
    assert file_sha256(out) == sha256(DATA[:100_000])
    assert tail.poll() is None
    again = mount.open("f", os.O_WRONLY | os.O_APPEND)
    again.write(b"one line more\n")
    procs.wait_until(lambda: os.path.getsize(out) == 100_014, "tail -f to show the next line")


def test_grep_line_buffered_shows_lines_as_they_come(mount):
    writer = mount.writer("f")
    grep = mount.popen(["grep", "--line-buffered", "7", mount.path("f")], stdout=subprocess.PIPE)
    for i in range(20):
        writer.write(b"%d\n" % i)
        if "7" in str(i):
            assert grep.stdout.readline() == b"%d\n" % i
    writer.close()
    assert grep.stdout.read() == b""
    assert grep.wait(procs.seconds(5)) == 0


def test_timeout_ends_cat_of_a_stalled_file(mount):
    writer = mount.writer("f")
    writer.write(b"hello\n")
    started = time.monotonic()
    cat = mount.popen(["timeout", "1", "cat", mount.path("f")], stdout=subprocess.PIPE)
    out, _ = cat.communicate(timeout=procs.seconds(10))
    assert cat.returncode == 124
    assert out == b"hello\n"
    assert time.monotonic() - started < 1 + procs.seconds(1)
    mount.wait_readers("f", 0)


def test_a_stopped_cat_delays_nobody(mount):
    writer = mount.writer("f")
    writer.write(DATA[:1000])
    out = [os.path.join(mount.run, f"out{i}") for i in range(2)]
    cats = [mount.popen(["sh", "-c", f"exec cat {mount.path('f')} > {o}"]) for o in out]
    mount.wait_readers("f", 2)
    procs.kill(cats[0].pid, 19)
    procs.wait_until(lambda: procs.state(cats[0].pid) == "T", "cat to stop")
    produce(writer, DATA[1000:], 0.5)
    writer.close()
    assert cats[1].wait(procs.seconds(5)) == 0
    assert cats[0].poll() is None
    procs.kill(cats[0].pid, 18)
    assert cats[0].wait(procs.seconds(5)) == 0
    for o in out:
        assert file_sha256(o) == sha256(DATA)


def read_slowly(path, delay, chunk, pause):
    """What one of many readers does; the length and digest of what it got."""
    import hashlib
    time.sleep(delay)
    fd = os.open(path, os.O_RDONLY)
    digest, size = hashlib.sha256(), 0
    while part := os.read(fd, chunk):
        digest.update(part)
        size += len(part)
        if pause:
            time.sleep(pause)
    os.close(fd)
    return size, digest.hexdigest()


def test_200_readers_with_speeds_and_starts_of_their_own(mount):
    rng = random.Random(1)
    data = DATA[:300_000]
    writer = mount.writer("f")
    pending = []
    for _ in range(200):
        chunk = rng.choice((1000, 4096, 20_000, 1 << 20))
        pause = rng.choice((0, 0, 0.001, 0.01)) if chunk > 1000 else 0
        pending.append(mount.agent().begin(read_slowly, mount.path("f"), rng.random() * 2, chunk,
                                           pause))
    produce(writer, data, 1.5, largest=6000)
    writer.close()
    expected = (len(data), sha256(data))
    assert [p.result(30) for p in pending] == [expected] * 200


# -- ffmpeg

SOURCE = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2.5",
          "-f", "lavfi", "-i", "sine=duration=2.5", "-threads", "1",
          "-c:v", "mpeg2video", "-b:v", "800k", "-c:a", "mp2"]
EXACT = ["-fflags", "+bitexact", "-flags", "bitexact"]


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
def test_ffmpeg_remuxes_what_ffmpeg_is_writing(mount, container):
    need("ffmpeg")
    quiet = ["ffmpeg", "-v", "error", "-nostdin"]
    # Live muxing: nothing is rewritten at the end, as for any stream that is watched while made.
    live = {"mpegts": [], "matroska": ["-live", "1"]}[container]
    producer = mount.popen([*quiet, "-re", *SOURCE, *EXACT, "-flush_packets", "1",
                            "-f", container, *live, mount.path("f")], stderr=subprocess.PIPE)
    procs.wait_until(lambda: os.path.exists(mount.stored("f")) and
                     os.path.getsize(mount.stored("f")) > 20_000, "ffmpeg to have begun")
    os.kill(producer.pid, signal.SIGSTOP)  # until somebody waits for it
    remuxed = os.path.join(mount.run, "remuxed")
    remuxer = mount.popen([*quiet, "-i", mount.path("f"), "-map", "0", "-c", "copy", *EXACT,
                           "-f", container, *live, remuxed], stderr=subprocess.PIPE)
    mount.wait_readers("f", 1, 30)
    os.kill(producer.pid, signal.SIGCONT)
    _, err = producer.communicate(timeout=procs.seconds(20))
    assert producer.returncode == 0 and not err
    _, err = remuxer.communicate(timeout=procs.seconds(20))
    assert remuxer.returncode == 0, err
    expected = os.path.join(mount.run, "expected")
    run([*quiet, "-i", mount.stored("f"), "-map", "0", "-c", "copy", *EXACT, "-f", container,
         *live, expected])
    assert os.path.getsize(expected) > 50_000
    assert file_sha256(remuxed) == file_sha256(expected)


def test_a_complete_file_is_written_by_name(mount):
    """The writer is an unmodified program too: a shell redirection."""
    follower = mount.agent()
    mount.probe.call(write_file, mount.path("script"), b"for i in 1 2 3; do echo $i; done")
    shell = mount.popen(["sh", "-c", f"sh {mount.path('script')} > {mount.path('f')}"])
    assert shell.wait(procs.seconds(5)) == 0
    assert follower.open(mount.path("f"), os.O_RDONLY).read_all() == b"1\n2\n3\n"
