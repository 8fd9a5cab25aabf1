# SPDX-License-Identifier: MIT
"""A cache in front of rww-httpd, with the recipe in contrib/servers."""
import os
import signal
import subprocess

import pytest

from harness import procs
from harness.data import pattern
from harness.tools import need
from harness.webservers import CUT, Fetch, WebServer

A, B, C = pattern(300_000, 1), pattern(200_000, 2), pattern(100_000, 3)
CLIENTS = 20


@pytest.fixture
def cached(request, mount):
    """(rww-httpd, Varnish in front of it)"""
    need("varnishd", "curl")
    made = []
    try:
        made.append(WebServer("rww-httpd", mount.mnt, options=["--access-log=-"]).start())
        made.append(WebServer("varnish", f"127.0.0.1:{made[0].port}").start())
        yield made
    finally:
        for web in made[::-1]:
            web.destroy() if getattr(request.node, "call_failed", False) else web.stop()


def requests_of(origin, name):
    with open(origin.log_path, encoding="utf-8") as f:
        return [line for line in f if f'"GET /{name} ' in line]


def follow(cache, name):
    return [cache.fetch(name) for _ in range(CLIENTS)]


@pytest.mark.modes("on", "off")
def test_a_growing_file_is_fetched_once_for_all(mount, cached):
    origin, cache = cached
    writer = mount.writer("f")
    writer.write(A)
    first = cache.fetch("f")
    first.wait_received(len(A))
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
    assert len(requests_of(origin, "f")) == 1


@pytest.mark.modes("off")
def test_a_complete_file_is_kept_and_asked_about(mount, cached):
    origin, cache = cached
    mount.write_file("f", A)

    def sent():
        """What the server answered when it was asked."""
        return [line.split('"')[2].split()[0] for line in requests_of(origin, "f")]

    def asked_again():
        assert cache.get("f") == (0, 200, A)
        return "304" in sent()

    procs.wait_until(asked_again, "the cache to ask")
    assert sent().count("200") == 1
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
    assert http == 503 or (curl in CUT and A.startswith(body))  # it may hear of the end at once
    mount.write_file("f", A + B)
    assert cache.get("f") == (0, 200, A + B)


@pytest.mark.modes("off")
def test_what_passes_the_cache_as_it_is(mount, cached):
    _, cache = cached
    writer = mount.writer("f")
    writer.write(A)

    def begin(*options):
        fetch = Fetch(f"http://127.0.0.1:{cache.port}/f", cache.run, *options)
        cache.fetches.append(fetch)
        return fetch

    assert begin("-r", "0-9").end() == (0, 206, A[:10])
    held = begin("-r", f"{len(A)}-")
    writer.write(B)
    assert held.end() == (0, 206, B)
    assert begin("--http1.0").end()[:2] == (0, 505)
    writer.close()


@pytest.mark.modes("off")
def test_an_upload_that_breaks_off_behind_the_cache(mount):
    need("varnishd", "curl")
    origin = WebServer("rww-httpd", mount.mnt, options=["--upload"]).start()
    cache = WebServer("varnish", f"127.0.0.1:{origin.port}").start()
    try:
        upload = mount.popen(["curl", "-sN", "-T", "-", f"http://127.0.0.1:{cache.port}/f"],
                             stdin=subprocess.PIPE)
        upload.stdin.write(A)
        upload.stdin.flush()
        procs.wait_until(lambda: os.path.exists(mount.stored("f")), "the file to appear")
        mount.wait_state("f", "growing")
        upload.kill()
        mount.wait_state("f", "aborted")
    finally:
        cache.stop()
        origin.stop()
