# SPDX-License-Identifier: MIT
"""The documents say what is true: the README's commands run, the man pages list what there is."""
import os
import re
import select
import subprocess
import tempfile
import time

import pytest

from harness import mount as mounts
from harness import procs
from harness.tools import need

REPO = mounts.REPO
CTL = os.path.join(mounts.BUILD, "fs", "rwwctl")
HTTPD = os.path.join(mounts.BUILD, "httpd", "rww-httpd")


def text_of(*path):
    with open(os.path.join(REPO, *path), encoding="utf-8") as f:
        return f.read()


# --- the README's commands ----------------------------------------------------------------------

class Step:
    def __init__(self, command):
        self.command, self.output = command, []


def steps(markdown):
    """The commands of all ```console blocks, each with the output that is shown."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", markdown, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            else:
                found[-1].output.append(line)
    return found


def pattern(lines):
    """What output must match: `...` in the document stands for anything."""
    text = "".join(line + "\n" for line in lines)
    return ".*".join(re.escape(part) for part in text.split("..."))


def as_on_a_terminal(output):
    """A shell that is not interactive says more about a killed process."""
    return re.sub(r"^\S+: line \d+: +\d+ (Killed) .*$", r"\1", output, flags=re.M)


class Shell:
    """bash in namespaces of its own, with a pipe to each side. When it ends, all it started ends."""

    MARK = "\x1e"

    def __init__(self, folder):
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             "bash", "--norc"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            start_new_session=True, preexec_fn=procs.die_with_parent,
            env={**os.environ, "TMPDIR": folder, "LC_ALL": "C.UTF-8"})
        self.seen = b""

    def run(self, command, timeout=20):
        """What the command prints, and what those in the background print meanwhile."""
        # A person needs longer for the next one.
        pause = "sleep 0.3" if command.endswith("&") else ""
        self.process.stdin.write(f"{command}\n{pause}\nprintf '%s' '{self.MARK}'\n".encode())
        self.process.stdin.flush()
        deadline = time.monotonic() + procs.seconds(timeout)
        while self.MARK.encode() not in self.seen:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert data, f"{'the shell ended' if ready else 'no end'}: {command}\n{self.seen.decode()}"
            self.seen += data
        output, _, self.seen = self.seen.partition(self.MARK.encode())
        return as_on_a_terminal(output.decode())

    def end(self):
        self.process.kill()
        self.process.communicate()


# A new network namespace has a loopback interface that is down.
LOOPBACK_UP = """/usr/bin/python3 -c '
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))'"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root: needed for namespaces of its own")
def test_the_readme_does_what_it_says(base):
    need("unshare", "getfattr", "curl", "tar")
    if not os.path.exists(HTTPD):
        pytest.skip("rww-httpd: not built")
    folder = tempfile.mkdtemp(dir=base, prefix="readme-")
    os.symlink(mounts.BUILD, os.path.join(folder, "build"))
    todo = steps(text_of("README.md"))
    shell = Shell(folder)
    try:
        shell.run(LOOPBACK_UP)
        for step in todo:
            output = shell.run(step.command)
            assert re.fullmatch(pattern(step.output), output, re.S), \
                f"$ {step.command}\nprinted:\n{output}\nthe README says:\n" + "\n".join(step.output)
    finally:
        shell.end()
        mounts.remove_tree(folder)
    assert len(todo) > 20


# --- options ------------------------------------------------------------------------------------

def help_of(program):
    return subprocess.run([program, "--help"], check=True, capture_output=True, text=True,
                          timeout=procs.seconds(10)).stdout


@pytest.mark.parametrize("word", ["--help", "--version"])
@pytest.mark.parametrize("program", [mounts.BINARY, CTL, HTTPD], ids=os.path.basename)
def test_help_that_is_lost_is_a_failure(program, word):
    if not os.path.exists(program):
        pytest.skip("rww-httpd: not built")
    with open("/dev/full", "w") as full:
        done = subprocess.run([program, word], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=procs.seconds(10))
    assert done.returncode == 1
    assert done.stderr == f"{os.path.basename(program)}: cannot write: No space left on device\n"


@pytest.mark.parametrize("words, shown", [
    (("-x",), "-x"), (("-xf", "/"), "-x"), (("--nonsense", "/"), "--nonsense"),
    (("--help=all",), "--help=all"), (("/", "-zq"), "-z")])
@pytest.mark.parametrize("program", [
    (mounts.BINARY,), (CTL, "wait"), (HTTPD,)], ids=lambda command: os.path.basename(command[0]))
def test_an_unknown_option_is_named(program, words, shown):
    if not os.path.exists(program[0]):
        pytest.skip("rww-httpd: not built")
    done = subprocess.run([*program, *words], capture_output=True, text=True,
                          timeout=procs.seconds(10))
    assert done.returncode and not done.stdout
    assert re.fullmatch(rf"[\w-]+: (unknown )?option [\"']{shown}[\"'].*\n", done.stderr)


def options_of_help():
    """{name: {choices} or {"SECONDS"} …}"""
    return {name: set(values.split("|"))
            for name, values in re.findall(r"^    (\w+)=(\S+)$", help_of(mounts.BINARY), re.M)}


def options_of_man():
    found = {}
    for name, values in re.findall(r"^\.It Cm (\w+) Ns = Ns (.+)$", text_of("man", "rwwfs.1"), re.M):
        kind, *words = values.split()
        found[name] = {words[0].upper()} if kind == "Ar" else {w for w in words if w != "|"}
    return found


def test_mount_options_are_those_of_the_man_page():
    assert options_of_help() == options_of_man()
    assert len(options_of_man()) >= 11


def test_flags_are_those_of_the_man_page():
    page = text_of("man", "rwwfs.1")
    flags = re.findall(r"^  (-\w)(?:, --(\w+))? ", help_of(mounts.BINARY), re.M)
    assert len(flags) == 6
    for short, long in flags:
        assert re.search(rf"^\.It Fl {short[1]}\b{f' , -{long}' if long else ''}", page, re.M), short
    for short, long in re.findall(r"^\.It Fl (\w)(?: , -(\w+))?", page, re.M):
        assert (f"-{short}", long) in flags, short


def test_rwwctl_commands_are_those_of_the_man_page():
    page = text_of("man", "rwwctl.1")
    told = re.findall(r"^ *(?:usage: )?rwwctl (\w+)(.*)$", help_of(CTL), re.M)
    assert {name for name, _ in told} == set(re.findall(r"^\.It Cm (\w+)", page, re.M))
    for name, rest in told:
        item = re.search(rf"^\.It Cm {name}\b(.*)$", page, re.M).group(1)
        assert set(re.findall(r"--(\w+)", rest)) == set(re.findall(r"Fl -(\w+)", item)), name


@pytest.mark.parametrize("page, argv", [
    ("rwwfs.1", (mounts.BINARY, "-o", "linger=x", "/", "/")),
    ("rwwfs.1", (mounts.BINARY, "-o", "max_read=x", "/", "/")),
    ("rwwctl.1", (CTL, "watch", "--interval=0")),
    ("rwwctl.1", (CTL, "watch", "--count=0")),
    ("rwwctl.1", (CTL, "wait", "--timeout=x", "f")),
    ("rww-httpd.8", (HTTPD, "--threads=0", "/")),
    ("rww-httpd.8", (HTTPD, "--max-connections=0", "/")),
], ids=lambda value: value if isinstance(value, str) else " ".join(value[1:]))
def test_bounds_are_those_of_the_man_page(page, argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    bounds = re.findall(r"[\d.]+", done.stderr.rpartition("expected")[2])
    assert done.returncode and re.search(rf"\b{re.escape(bounds[-1])}\b", text_of("man", page))


def source_of(*names):
    """C source with literals that go on in the next line made one."""
    return re.sub(r'"\s*\n\s*"', "", "".join(text_of("fs", name) for name in names))


def diagnostics():
    section = text_of("man", "rwwfs.1").partition(".Sh DIAGNOSTICS")[2].partition(".Sh ")[0]
    return [line.replace("\\*q", '\\"') for line in re.findall(r"^\.It (.+)$", section, re.M)]


def test_diagnostics_are_messages_of_the_program():
    """Each message of the man page stands in the source, up to what differs."""
    source = source_of(*(n for n in os.listdir(os.path.join(REPO, "fs")) if n.endswith(".c")))
    elsewhere = ("option allow_other", "/dev/fuse", "No such", "option -o")  # fusermount3, errno
    for line in diagnostics():
        if not line.startswith(elsewhere):
            for part in re.split(r"NAME=VALUE|NAME|PATH: No.*|PATH|=on|\.\.\.| N s| N,|^store |^mountpoint ", line):
                assert part.strip(" :()") in source, line
    assert len(diagnostics()) > 15


def test_messages_at_start_are_in_the_man_page():
    """What options.c and store.c refuse is explained."""
    told = "\n".join(diagnostics())
    for text in re.findall(r'log_error\("((?:[^"\\]|\\.)*)"', source_of("options.c", "store.c")):
        part = max(re.split(r"%\w+", text), key=len)
        part = {": expected seconds, such as 30 or 0.5, up to ": ": expected",
                ": expected a file name": ": expected",
                ": expected bytes, ": ": expected",
                ": expected one of ": ": expected"}.get(part, part)
        assert part.strip(" :") in told, text


# --- form ---------------------------------------------------------------------------------------

PAGES = sorted(n for n in os.listdir(os.path.join(REPO, "man")) if re.search(r"\.\d$", n))


@pytest.mark.parametrize("page", PAGES)
def test_man_page_is_clean(page):
    need("mandoc")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(REPO, "man", page)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_and_paths_lead_somewhere(document):
    text = text_of(document)
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert os.path.exists(os.path.join(REPO, link)), link
    for path in re.findall(r"(?<![\w/.])((?:tests|contrib|man|fs|httpd|common|\.ci)/[\w./-]*\w)", text):
        if not re.search(r"/(rwwfs|rww-httpd|rwwctl)$", path):  # programs, in the build folder
            assert os.path.exists(os.path.join(REPO, path)), path
