# SPDX-License-Identifier: MIT
"""A cache in front of rww-httpd, with its recipe in contrib/servers."""
import concurrent.futures
import contextlib
import glob
import http.client
import os
import signal
import subprocess

import pytest

from harness import procs
from harness.data import pattern
from harness.tools import need
from harness.webservers import CACHES, CUT, WebServer

A, B, C = pattern(300_000, 1), pattern(200_000, 2), pattern(100_000, 3)
CLIENTS = 20
SHARING = ("varnish", "trafficserver")  # nginx lets nobody join a fetch that runs


@pytest.fixture
def put_in_front(request, mount):
    """put_in_front(cache, options of rww-httpd...): (rww-httpd, the cache in front of it)"""
    def end(web):
        web.destroy() if getattr(request.node, "call_failed", False) else web.stop()

    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            web = WebServer(*arguments, **options)
            stack.callback(end, web)
            return web.start()

        def make(name, *options):
            need(CACHES[name], "curl")
            origin = start("rww-httpd", mount.mnt, options=["--access-log=-", *options])
            return origin, start(name, f"127.0.0.1:{origin.port}")

        yield make


@pytest.fixture(params=CACHES)
def cached(request, put_in_front):
    return put_in_front(request.param, "--upload")


def requests_of(origin, name):
    with open(origin.log_path, encoding="utf-8") as f:
        return [line for line in f if f'"GET /{name} ' in line]


def sent_for(origin, name):
    """What the server answered when it was asked."""
    return [line.split('"')[2].split()[0] for line in requests_of(origin, name)]


def follow(cache, name):
    return [cache.fetch(name) for _ in range(CLIENTS)]


def begin(mount, cache):
    """A writer, and one who follows him."""
    writer = mount.writer("f")
    writer.write(A)
    following = cache.fetch("f")
    following.wait_received(len(A))
    return writer, following


@pytest.mark.modes("on", "off")
def test_a_growing_file_is_live_for_all(mount, cached):
    origin, cache = cached
    writer, first = begin(mount, cache)
    fetches = [first, *follow(cache, "f")]
    for fetch in fetches:
        fetch.wait_received(len(A))
    writer.write(B)
    for fetch in fetches:
        fetch.wait_received(len(A + B))
        assert fetch.process.poll() is None
    writer.write(C)
    writer.close()
    for fetch in fetches:
        assert fetch.end() == (0, 200, A + B + C)
    wanted = 1 if cache.name in SHARING else len(fetches)
    procs.wait_until(lambda: len(requests_of(origin, "f")) >= wanted, "the requests in the log")
    assert len(requests_of(origin, "f")) == wanted


@pytest.mark.modes("off")
def test_the_client_that_began_a_fetch_leaves(mount, cached):
    _, cache = cached
    writer, first = begin(mount, cache)
    other = cache.fetch("f")
    other.wait_received(len(A))
    first.process.kill()
    procs.stays(lambda: other.process.poll() is None, "the other client following")
    writer.write(B)
    other.wait_received(len(A + B))
    writer.write(C)
    writer.close()
    assert other.end() == (0, 200, A + B + C)


@pytest.mark.modes("off")
def test_what_has_just_ended_is_kept(mount, cached):
    """By Varnish for a second only, while it still has what grew."""
    origin, cache = cached
    writer, following = begin(mount, cache)
    writer.write(B)
    writer.close()
    assert following.end() == (0, 200, A + B)
    procs.wait_until(lambda: not origin.fetch("f", "-I").end()[2].count(b"W/"), "its age")
    for _ in range(50):
        assert cache.get("f") == (0, 200, A + B)
    assert sent_for(origin, "f").count("200") < 15


@pytest.mark.modes("off")
def test_who_follows_for_long_is_not_cut(mount, put_in_front):
    """Varnish has a limit for an answer as a whole, of ten minutes; here it is one of a second."""
    _, cache = put_in_front("varnish")
    (folder,) = glob.glob(f"{cache.run}/*/varnish")
    subprocess.run(["varnishadm", "-n", folder, "param.set", "send_timeout", "1"], check=True,
                   capture_output=True, timeout=20)
    writer = mount.writer("f")
    fetch = cache.fetch("f")

    def goes_on():
        writer.write(b"x")
        return fetch.process.poll() is None

    procs.stays(goes_on, "the client following", 2)
    writer.close()
    assert fetch.end() == (0, 200, mount.stored_bytes("f"))


@pytest.mark.modes("off")
def test_a_complete_file_is_kept_and_asked_about(mount, cached):
    origin, cache = cached
    mount.write_file("f", A)
    # by a tag that is weak it cannot be asked about
    procs.wait_until(lambda: "\nETag: \"" in origin.fetch("f", "-I").end()[2].decode(), "its age")

    def asked_again():
        assert cache.get("f") == (0, 200, A)
        return "304" in sent_for(origin, "f")

    procs.wait_until(asked_again, "the cache to ask")
    assert sent_for(origin, "f").count("200") == 1
    mount.write_file("f", B)
    procs.wait_until(lambda: cache.get("f") == (0, 200, B), "the cache to hear of the new file")


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("declared", [False, True])
def test_a_file_that_fails_is_cut_for_all_and_not_kept(mount, cached, declared):
    _, cache = cached
    writer = mount.writer("f")
    if declared:
        mount.probe.call(os.setxattr, mount.path("f"), "user.rww.size", b"%d" % len(A + B + C))
    writer.write(A)
    fetches = follow(cache, "f")
    for fetch in fetches:
        fetch.wait_received(len(A))
    writer.agent.kill(signal.SIGKILL)
    mount.wait_state("f", "aborted")
    for fetch in fetches:
        curl, http, body = fetch.end()
        assert curl in CUT and http == 200 and A.startswith(body)
    curl, http, body = cache.get("f")
    assert http in (502, 503) or (curl in CUT and A.startswith(body))  # it may hear of it at once
    mount.write_file("f", A + B)
    assert cache.get("f") == (0, 200, A + B)


@pytest.mark.modes("off")
def test_what_has_failed_never_ends_well(mount, cached):
    """However soon the fetch fails; of several clients at a time, so that some get it late."""
    _, cache = cached
    writer = mount.writer("f")
    writer.write(C[:1000])
    writer.agent.kill(signal.SIGKILL)
    mount.wait_state("f", "aborted")

    def ask(_):
        client = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=procs.seconds(10))
        with contextlib.closing(client):
            client.request("GET", "/f")
            try:
                response = client.getresponse()
                return response.status, response.read()
            except (http.client.HTTPException, ConnectionError):
                return "cut"

    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        assert (200, C[:1000]) not in clients.map(ask, range(300))


@pytest.mark.modes("off")
def test_what_passes_the_cache_as_it_is(mount, cached):
    _, cache = cached
    writer = mount.writer("f")
    writer.write(A)

    assert cache.fetch("f", "-r", "0-9").end() == (0, 206, A[:10])
    held = cache.fetch("f", "-r", f"{len(A)}-")
    writer.write(B)
    assert held.end() == (0, 206, B)
    assert cache.fetch("f", "--http1.0").end()[:2] == (0, 505)
    writer.close()
    waiting = cache.fetch("later", "-H", "Prefer: wait=60")
    procs.stays(lambda: waiting.process.poll() is None, "the client waiting")
    mount.write_file("later", C)
    assert waiting.end() == (0, 200, C)


@pytest.mark.modes("off")
@pytest.mark.parametrize("name", CACHES)
def test_what_is_for_one_client_only(mount, put_in_front, name, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    _, cache = put_in_front(name, f"--tokens={tokens}")
    writer = mount.writer("f")
    writer.write(A)

    def allowed():
        return cache.fetch("f", "-H", "Authorization: Bearer secret")

    following = allowed()
    following.wait_received(len(A))
    assert cache.get("f")[:2] == (0, 401)
    writer.close()
    assert following.end() == (0, 200, A)
    assert allowed().end() == (0, 200, A)
    assert cache.get("f")[:2] == (0, 401)


@pytest.mark.modes("off")
def test_an_upload_that_breaks_off_behind_the_cache(mount, cached):
    _, cache = cached
    upload = mount.popen(["curl", "-sN", "-T", "-", f"http://127.0.0.1:{cache.port}/f"],
                         stdin=subprocess.PIPE)
    upload.stdin.write(A)
    upload.stdin.flush()
    procs.wait_until(lambda: os.path.exists(mount.stored("f")), "the file to appear")
    mount.wait_state("f", "growing")
    upload.kill()
    mount.wait_state("f", "aborted")
