# SPDX-License-Identifier: MIT
"""Other people's web servers on a mount: the table in the README, and what it says below it."""
import os
import re
import signal
import subprocess

import pytest

from harness import procs
from harness.data import pattern
from harness.mount import REPO
from harness.tools import need
from harness.webservers import CUT, PROGRAMS, RECIPES, WebServer

A, B, C = pattern(300_000, 1), pattern(200_000, 2), pattern(100_000, 3)
WHOLE = A + B + C
BUFFERED = 128 << 10  # what a server keeps until more of a declared file is there, at most
PYTHON_READS = 256 << 10  # at a time, since 3.14

NAMES = {"Apache httpd": "apache", "Python http.server": "python", "busybox httpd": "busybox"}


def table():
    """Rows of the README: (server, mount options, what of a growing, declared, aborted file)."""
    with open(os.path.join(REPO, "README.md"), encoding="utf-8") as f:
        section = f.read().partition("\n## Other web servers\n")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in section.splitlines() if line.startswith("| ")][1:]
    return [(NAMES.get(row[0], row[0].lower()), *row[1:]) for row in rows]


@pytest.fixture
def serve(request, make_mount):
    """serve(name, mount, edits): ends before the mount does."""
    made = []

    def make(name, mount, edits=()):
        need(PROGRAMS[name], "curl")
        made.append(WebServer(name, mount.mnt, edits))
        return made[-1].start()

    yield make
    for server in made:
        server.destroy() if getattr(request.node, "call_failed", False) else server.stop()


def begin(mount, name, size=None):
    """A file of which A is written."""
    writer = mount.writer(name)
    if size is not None:
        mount.probe.call(os.setxattr, mount.path(name), "user.rww.size", str(size).encode())
    writer.write(A)
    return writer


def finish(mount, name, writer):
    writer.write(C)
    writer.close()
    mount.wait_state(name, "complete")


def crash(mount, name, writer):
    writer.agent.kill(signal.SIGKILL)
    writer.agent.wait()
    mount.wait_state(name, "aborted")


def make_aborted(mount, name, size=None):
    crash(mount, name, begin(mount, name, size))


def is_cut(got, data=WHOLE):
    return got[0] in CUT and got[1] == 200 and len(got[2]) < len(WHOLE) and data.startswith(got[2])


def is_error(got):
    return got[0] == 0 and got[1] in (403, 404, 500) and not WHOLE.startswith(got[2] or b"-")


def wait_held(mount):
    """The kernel has an unanswered request of somebody, not only for a moment."""
    looks = 0

    def still():
        nonlocal looks
        looks = looks + 1 if mount.waiting() else 0
        return looks == 20

    procs.wait_until(still, "a call to be held")


# -- what the words in the table mean

def snapshot(mount, web, size):
    writer = begin(mount, "f", size)
    assert web.get("f") == (0, 200, A)
    writer.write(B)
    finish(mount, "f", writer)


def live(mount, web, size):
    writer = begin(mount, "f", size)
    fetch = web.fetch("f")
    fetch.wait_received(len(A) - BUFFERED)
    writer.write(B)
    fetch.wait_received(len(A + B) - BUFFERED)
    assert fetch.process.poll() is None
    finish(mount, "f", writer)
    assert fetch.end() == (0, 200, WHOLE)

    writer = begin(mount, "failing", size)
    fetch = web.fetch("failing")
    fetch.wait_received(len(A) - BUFFERED)
    crash(mount, "failing", writer)
    assert is_cut(fetch.end())


def at_its_end(mount, web, size):
    writer = begin(mount, "f", size)
    fetch = web.fetch("f")
    wait_held(mount)
    writer.write(B)
    assert mount.waiting() and not fetch.received()
    finish(mount, "f", writer)
    assert fetch.end() == (0, 200, WHOLE)

    writer = begin(mount, "failing", size)
    fetch = web.fetch("failing")
    wait_held(mount)
    crash(mount, "failing", writer)
    assert is_error(fetch.end())


def cut(mount, web, size):
    make_aborted(mount, "f", size)
    got = web.get("f")
    assert is_cut(got) and got[2] == A


def error(mount, web, size):
    make_aborted(mount, "f", size)
    assert is_error(web.get("f"))


WORDS = {"snapshot": snapshot, "live": live, "at its end": at_its_end, "cut": cut, "error": error}


@pytest.mark.parametrize("character", " \t\n\"'\\;,&$#{}<>")
def test_a_path_that_a_recipe_cannot_hold_is_refused(tmp_path, character):
    folder = tmp_path / f"a{character}b"
    folder.mkdir()
    for name in ("nginx", "apache", "lighttpd", "caddy"):
        done = subprocess.run([os.path.join(RECIPES, "serve"), name, folder, "1"],
                              capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"serve: {folder}: a recipe cannot have ")


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("row", table(), ids=lambda row: " ".join(row[:2]).strip())
def test_table_of_the_readme(make_mount, mode, serve, row):
    name, options, *words = row
    mount = make_mount(mode, options)
    web = serve(name, mount)
    mount.write_file("f", WHOLE)
    assert web.get("f") == (0, 200, WHOLE)
    for word, size in zip(words, (None, len(WHOLE), None)):
        mount.probe.call(os.unlink, mount.path("f"))
        WORDS[word](mount, web, size)


def test_the_table_has_all_servers():
    assert {row[0] for row in table()} == set(PROGRAMS)


# -- what is said below it

@pytest.mark.modes("on", "off")
def test_an_aborted_file_needs_the_mount_option_or_a_declared_size(mount, serve):
    make_aborted(mount, "undeclared")
    make_aborted(mount, "declared", len(WHOLE))
    for name in sorted(PROGRAMS):
        web = serve(name, mount)
        assert is_cut(web.get("declared")), name
        got = web.get("undeclared")
        if name in ("rww-httpd", "python"):
            assert is_cut(got), name
        else:
            assert got == (0, 200, A), name


@pytest.mark.modes("off")
@pytest.mark.options("hold=open")
@pytest.mark.parametrize("name", ["apache", "busybox"])
def test_hold_open_does_not_help_those_that_look_before_they_open(mount, serve, name):
    web = serve(name, mount)
    writer = begin(mount, "f")
    fetch = web.fetch("f")
    wait_held(mount)
    writer.write(B)
    finish(mount, "f", writer)
    assert fetch.end() == (0, 200, A)  # as proper as a snapshot, only later


@pytest.mark.modes("off")
@pytest.mark.options("hold=open")
@pytest.mark.parametrize("name", ["nginx", "lighttpd"])
def test_hold_open_is_an_error_for_those_that_open_with_o_nonblock(mount, serve, name):
    web = serve(name, mount)
    writer = begin(mount, "f")
    assert is_error(web.get("f"))
    writer.write(B)
    finish(mount, "f", writer)
    assert web.get("f") == (0, 200, WHOLE)


# -- clients that wait stop nobody else

def wait_at_the_edge(mount, web, count):
    """So many clients wait for more of a declared file: (writer, responses, what each has)."""
    writer = begin(mount, "f", len(WHOLE))
    responses, parts = [], []
    for i in range(count):
        responses.append(web.connect().begin("/f").response())
        parts.append(responses[i].at_least(len(A) - PYTHON_READS))
        if web.name == "lighttpd":  # until it waits, its process may take the next one, too
            mount.wait_readers("f", i + 1)
    return writer, responses, parts


@pytest.mark.modes("on", "off")
@pytest.mark.options("aborted=deny")
@pytest.mark.parametrize("name, count", [("nginx", 40), ("apache", 40), ("lighttpd", 4),
                                         ("caddy", 40), ("python", 40), ("busybox", 40)])
def test_clients_that_wait_stop_nobody_else(mount, serve, name, count):
    web = serve(name, mount)
    mount.write_file("other", WHOLE)
    writer, responses, parts = wait_at_the_edge(mount, web, count)
    for _ in range(5):
        assert web.get("other") == (0, 200, WHOLE)
    writer.write(B)
    finish(mount, "f", writer)
    for response, part in zip(responses, parts):
        assert part + response.rest() == WHOLE


# -- what is lost without the lines of the recipes that matter

def check_that_others_wait(mount, web):
    mount.write_file("other", WHOLE)
    writer, [response], [part] = wait_at_the_edge(mount, web, 1)
    wait_held(mount)
    other = web.connect().begin("/other")
    procs.stays(other.is_quiet, "the other client waiting")
    writer.write(B)
    finish(mount, "f", writer)
    assert part + response.rest() == WHOLE
    assert other.response().rest() == WHOLE


@pytest.mark.modes("on")
@pytest.mark.parametrize("name, edits", [
    ("nginx", {"aio threads=live;": "", "worker_processes auto;": ""}),
    ("nginx", {"threads=512;": "threads=1;", "worker_processes auto;": ""}),
    ("lighttpd", {"server.max-worker = 16": ""}),
], ids=["nginx without threads", "nginx with one thread", "lighttpd"])
def test_others_wait_without_the_recipe(mount, serve, name, edits):
    check_that_others_wait(mount, serve(name, mount, edits))


def check_that_declared_files_are_cut(mount, web):
    writer = begin(mount, "f", len(WHOLE))
    assert is_cut(web.get("f"))
    writer.write(B)
    finish(mount, "f", writer)
    assert web.get("f") == (0, 200, WHOLE)


@pytest.mark.modes("on")
def test_apache_cuts_declared_files_without_the_recipe(mount, serve):
    check_that_declared_files_are_cut(mount, serve("apache", mount, {"EnableMMAP off": ""}))


@pytest.mark.modes("on", "off")
def test_nginx_cuts_declared_files_with_sendfile(mount, serve):
    edits = {"sendfile off;": "sendfile on;", "aio threads=live;": ""}
    check_that_declared_files_are_cut(mount, serve("nginx", mount, edits))


@pytest.mark.modes("on")
def test_nginx_cuts_what_waits_longer_than_its_send_timeout(mount, serve):
    edits = {"error_log stderr;": "error_log stderr info;",
             "send_timeout 1d;": "send_timeout 500ms;"}
    web = serve("nginx", mount, edits)
    writer = begin(mount, "f", len(WHOLE))
    fetch = web.fetch("f")
    procs.wait_until(lambda: "client timed out" in web.testimony(), "nginx to lose patience")
    writer.write(B)
    assert is_cut(fetch.end())
    finish(mount, "f", writer)
