# SPDX-License-Identifier: MIT
"""rww-httpd on an rwwfs mount: the table of DESIGN section 6, row by row."""
import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from harness import mount as mounts
from harness import procs, server, tools
from harness.data import pattern

pytestmark = [pytest.mark.sanitize]

MAX = (1 << 53) - 1


# -- growing, size not declared

def test_no_range_is_followed_to_the_end(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.status == 200
    assert response.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in response.headers
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers and "last-modified" not in response.headers
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    for piece in (b"one", b"two", b"x" * 100000):
        writer.write(piece)
        assert response.exactly(len(piece)) == piece
        web.wait_held(1)
    writer.close()
    assert response.rest() == b""
    assert response.client.request("/f.txt").rest() == pattern(100) + b"onetwo" + b"x" * 100000


def test_the_header_comes_before_the_first_byte(mount, web):
    writer = mount.writer("f.txt")
    response = web.request("/f.txt")
    assert response.status == 200
    assert response.headers["x-accel-buffering"] == "no"  # for an nginx in between
    writer.write(b"first")
    assert response.exactly(5) == b"first"
    writer.close()
    assert response.rest() == b""


def test_http_1_0_gets_a_body_that_ends_with_the_connection(growing):
    mount, web, writer = growing
    response = web.request("/f.txt", version="1.0")
    assert response.left is None
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_is_far_behind_gets_every_byte(growing, version):
    """There is more than a socket takes; then the client catches up, and follows as before."""
    mount, web, writer = growing
    data = os.urandom(24 << 20)
    response = web.request("/f.txt", version=version)
    assert response.exactly(100) == pattern(100)
    writer.write(data)
    got = response.at_least(1 << 20)
    writer.write(b"more")
    got += response.at_least(len(data) + 4 - len(got))
    assert got == data + b"more"
    web.wait_held(1)
    writer.write(b"last")
    writer.close()
    assert response.rest() == b"last"
    if version == "1.1":
        assert response.client.request("/f.txt").rest() == pattern(100) + data + b"morelast"


@pytest.mark.parametrize("version, how", [("1.1", "closed"), ("1.0", "reset")])
def test_an_abort_reaches_who_is_far_behind(growing, version, how):
    mount, web, writer = growing
    data = os.urandom(24 << 20)
    response = web.request("/f.txt", version=version)
    assert response.exactly(100) == pattern(100)
    writer.write(data)
    got = response.at_least(1 << 20)
    mount.abort("f.txt")
    ended, rest = response.cut()
    assert (ended, got + rest == data) == (how, True)
    writer.close()


def test_head_mirrors_get(growing):
    mount, web, writer = growing
    get = web.request("/f.txt")
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=0-9"}, {"Range": "bytes=500-"}):
        head = web.request("/f.txt", "HEAD", **headers)  # Range is for GET only
        assert head.status == get.status == 200
        of_get, of_head = ({**r.headers, "date": 0} for r in (get, head))
        assert of_get.pop("transfer-encoding") == "chunked"  # RFC 9110 section 9.3.2: of no content
        assert of_head.pop("connection") == "close"
        assert of_head == of_get
    writer.close()


@pytest.mark.parametrize("value, first, last", [
    ("bytes=10-99", 10, 99), ("bytes=0-0", 0, 0), ("bytes=10-", 10, 99), ("bytes=-10", 90, 99),
    ("bytes=-1000", 0, 99),
])
def test_range_below_the_edge(growing, value, first, last):
    mount, web, writer = growing
    response = web.request("/f.txt", Range=value)
    assert response.status == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/*"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.rest() == pattern(100)[first:last + 1]


@pytest.mark.parametrize("value, first, last", [
    ("bytes=10-149", 10, 149), ("bytes=100-149", 100, 149), ("bytes=149-149", 149, 149)])
def test_range_past_the_edge_is_held_until_its_last_byte_exists(growing, value, first, last):
    mount, web, writer = growing
    client = web.connect().begin("/f.txt", Range=value)
    web.wait_held(1)
    writer.write(pattern(149)[100:])
    web.wait_held(1)
    assert client.is_quiet()
    writer.write(pattern(150)[149:])
    response = client.response()
    assert (response.status, response.headers["content-range"]) == (206, f"bytes {first}-{last}/*")
    assert response.rest() == pattern(150)[first:last + 1]


def test_range_past_the_edge_of_a_file_that_completes(growing):
    mount, web, writer = growing
    some, none = (web.connect().begin("/f.txt", Range=v) for v in ("bytes=10-149", "bytes=120-"))
    web.wait_held(2)
    writer.write(pattern(110)[100:])
    writer.close()
    response = some.response()
    assert (response.status, response.headers["content-range"]) == (206, "bytes 10-109/110")
    assert response.rest() == pattern(110)[10:]
    response = none.response()
    assert (response.status, response.headers["content-range"]) == (416, "bytes */110")


def test_range_from_beyond_the_edge_is_held_until_its_first_byte_exists(growing):
    mount, web, writer = growing
    client = web.connect().begin("/f.txt", Range="bytes=120-")
    web.wait_held(1)
    writer.write(pattern(130)[100:])
    response = client.response()
    assert (response.status, response.headers["content-range"]) == (206, "bytes 120-129/*")
    assert response.rest() == pattern(130)[120:]


@pytest.mark.parametrize("first", [0, 10])
@pytest.mark.parametrize("last", [MAX, (1 << 40) + 100, (1 << 64) - 1])
def test_range_with_a_very_large_end_follows(growing, first, last):
    mount, web, writer = growing
    response = web.request("/f.txt", Range=f"bytes={first}-{last}")
    assert response.status == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/*"
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.exactly(100 - first) == pattern(100)[first:]
    web.wait_held(1)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


def test_range_with_a_very_large_end_from_beyond_the_edge(growing):
    mount, web, writer = growing
    client = web.connect().begin("/f.txt", Range=f"bytes=120-{MAX}")
    web.wait_held(1)
    writer.write(pattern(125)[100:])
    response = client.response()
    assert response.status == 206
    assert response.exactly(5) == pattern(125)[120:]
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


@pytest.mark.parametrize("declared", [False, True])
def test_several_ranges_of_a_growing_file_are_ignored(growing, declared):
    """RFC 9110 section 14.2 leaves it to the server, and the whole is what does not change."""
    mount, web, writer = growing
    if declared:
        mount.declare("f.txt", 104)
    response = web.request("/f.txt", Range="bytes=0-9,20-29")
    assert (response.status, response.chunked) == (200, not declared)
    assert response.exactly(100) == pattern(100)
    writer.write(b"more")
    writer.close()
    assert response.rest() == b"more"


def test_prefer_wait_limits_how_long_a_range_is_held(growing):
    mount, web, writer = growing
    start = time.monotonic()
    response = web.request("/f.txt", Range="bytes=100-", Prefer="wait=1")
    assert (response.status, response.headers["content-range"]) == (416, "bytes */100")
    assert time.monotonic() - start >= 1
    response = web.request("/f.txt", Range="bytes=100-", Prefer="wait=0")
    assert response.status == 416


def test_hold_timeout_limits_it_too(serve, mount):
    web = serve(mount.mnt, "--hold-timeout=0.2", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    assert web.request("/f.txt", Range="bytes=100-").status == 503
    assert web.request("/f.txt", Range="bytes=100-", Prefer="wait=60").status == 416
    writer.close()


@pytest.mark.parametrize("argv, status", [(["curl", "-sS", "-C", "-", "-o"], 33), (["wget", "-qct1", "-O"], 8)],
                         ids=["curl", "wget"])
def test_who_resumes_does_not_take_a_growing_file_for_whole(serve, mount, tmp_path, argv, status):
    """As they do on 416."""
    tools.need(argv[0])
    web = serve(mount.mnt, "--hold-timeout=0.2", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    (tmp_path / "f.txt").write_bytes(pattern(100))
    done = subprocess.run([*argv, tmp_path / "f.txt", web.url("/f.txt")], capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=procs.seconds(10))
    assert done.returncode == status
    assert (tmp_path / "f.txt").read_bytes() == pattern(100)
    writer.close()


def test_conditions_on_a_growing_file(growing):
    mount, web, writer = growing
    assert web.request("/f.txt", If_Match='"x"').status == 412
    assert web.request("/f.txt", If_None_Match='"x"').status == 200
    response = web.request("/f.txt", If_None_Match="*")
    assert (response.status, response.headers["cache-control"]) == (304, "no-store")
    response = web.request("/f.txt", Range="bytes=0-9", If_Range='"x"')
    assert (response.status, "content-range" in response.headers) == (200, False)


def test_a_file_has_validators_once_complete(growing):
    mount, web, writer = growing
    writer.close()
    mount.wait_state("f.txt", "complete")
    response = web.request("/f.txt", Range="bytes=10-19")
    assert response.headers["content-range"] == "bytes 10-19/100"
    assert "etag" in response.headers and "last-modified" in response.headers
    assert "no-store" not in response.headers.get("cache-control", "")
    assert response.rest() == pattern(100)[10:20]


def test_holes_are_not_sent_as_zeros(mount, web):
    writer = mount.writer("f.txt")
    writer.write(pattern(8192))
    writer.pwrite(b"late", 65536)
    response = web.request("/f.txt")
    assert response.exactly(8192) == pattern(8192)
    web.wait_held(1)
    writer.pwrite(b"y" * (65536 - 8192), 8192)
    assert response.exactly(65540 - 8192) == b"y" * (65536 - 8192) + b"late"
    writer.close()
    assert response.rest() == b""


def test_truncation_below_a_follower_cuts_it(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.truncate(50)
    how, body = response.cut()
    assert body == b""


# -- growing, size declared

def test_declared_size_is_the_content_length(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 1000)
    response = web.request("/f.txt")
    assert (response.status, response.headers["content-length"]) == (200, "1000")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.write(pattern(1000)[100:])
    assert response.exactly(900) == pattern(1000)[100:]
    writer.close()
    assert response.client.request("/f.txt").status == 200


@pytest.mark.parametrize("value, first, last", [
    ("bytes=10-19", 10, 19), ("bytes=50-149", 50, 149), ("bytes=100-", 100, 999),
    ("bytes=10-9007199254740991", 10, 999), ("bytes=-10", 990, 999)])
def test_range_of_a_declared_file(growing, value, first, last):
    mount, web, writer = growing
    mount.declare("f.txt", 1000)
    response = web.request("/f.txt", Range=value)
    assert response.status == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/1000"
    writer.write(pattern(1000)[100:])
    assert response.rest() == pattern(1000)[first:last + 1]
    writer.close()


def test_range_beyond_a_declared_size(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 1000)
    response = web.request("/f.txt", Range="bytes=1000-")
    assert (response.status, response.headers["content-range"]) == (416, "bytes */1000")
    writer.write(pattern(1000)[100:])
    writer.close()


# -- aborted

@pytest.mark.parametrize("version, how", [("1.1", "closed"), ("1.0", "reset")])
def test_abort_while_followed_cuts_the_connection(growing, version, how):
    mount, web, writer = growing
    response = web.request("/f.txt", version=version)
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.write(b"last words")
    mount.abort("f.txt")
    assert response.cut() == (how, b"last words")
    assert '"outcome":"aborted"' in procs.wait_until(web.access, "the access log")


def test_a_killed_writer_is_an_abort(growing):
    mount, web, writer = growing
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.agent.kill()
    assert response.cut() == ("closed", b"")


@pytest.mark.parametrize("version, how", [("1.1", "closed"), ("1.0", "reset")])
def test_an_aborted_file_is_never_cleanly_ended(growing, version, how):
    mount, web, writer = growing
    mount.abort("f.txt")
    assert web.request("/f.txt", version=version).cut() == (how, pattern(100))
    assert web.request("/f.txt", version=version, Range="bytes=10-").cut() == \
        (how, pattern(100)[10:])
    response = web.request("/f.txt", version=version, Range="bytes=10-19")
    assert (response.status, response.rest()) == (206, pattern(100)[10:20])
    assert web.request("/f.txt", version=version, Range="bytes=100-").status == 500


@pytest.mark.parametrize("wanted, told", [
    ("bytes=10-", f"bytes 10-{MAX}/*"), ("bytes=10-199", "bytes 10-199/*"),
    ("bytes=-90", f"bytes 10-{MAX}/*"), (f"bytes=10-{MAX}", f"bytes 10-{MAX}/*")])
def test_a_part_of_an_aborted_file_is_not_whole_by_its_content_range(growing, wanted, told):
    """wget --continue looks at nothing else once it has all that is named there."""
    mount, web, writer = growing
    mount.abort("f.txt")
    response = web.request("/f.txt", Range=wanted)
    assert (response.status, response.headers["content-range"]) == (206, told)
    assert response.cut() == ("closed", pattern(100)[10:])


def test_a_held_range_of_a_file_that_aborts(growing):
    mount, web, writer = growing
    client = web.connect().begin("/f.txt", Range="bytes=200-")
    web.wait_held(1)
    mount.abort("f.txt")
    assert client.response().status == 500


@pytest.mark.options("hold=open", "nonblock=hold")
def test_a_mount_that_makes_others_wait_is_followed(growing):
    _, web, writer = growing
    (entry,) = json.loads(web.get("/", Accept="application/json"))["entries"]
    assert (entry["state"], entry["size"]) == ("growing", 100)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.rest() == b""


def test_a_declared_file_that_ends_short_is_cut(growing):
    mount, web, writer = growing
    mount.declare("f.txt", 1000)
    response = web.request("/f.txt")
    assert response.exactly(100) == pattern(100)
    writer.close()
    assert response.cut()[1] == b""


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_following_over_tls(serve, mount, tmp_path, version):
    web = serve(mount.mnt, *server.certificate(tmp_path), identity=mount.identity())
    for ending in ("close", "abort"):
        writer = mount.writer(ending)
        writer.write(b"begin")
        response = web.request(f"/{ending}", version=version)
        assert response.exactly(5) == b"begin"
        web.wait_held(1)
        writer.write(b"more")
        assert response.exactly(4) == b"more"
        web.wait_held(1)
        if ending == "close":
            writer.close()
            assert response.rest() == b""
        else:
            mount.abort(ending)
            with pytest.raises((server.Cut, OSError)):
                response.rest()


# -- waiting for a name

def test_prefer_wait_waits_for_a_name(mount, web):
    client = web.connect().begin("/later.txt", Prefer="wait=30")
    web.wait_held(1)
    mount.write_file("other.txt", b"x")
    web.wait_held(1)
    assert client.is_quiet()
    mount.write_file("later.txt", b"here")
    response = client.response()
    assert response.status == 200 and response.rest() == b"here"


def test_prefer_wait_waits_for_directories_too(mount, web):
    client = web.connect().begin("/a/b/later.txt", Prefer="wait=30")
    web.wait_held(1)
    mount.probe.call(os.mkdir, mount.path("a"))
    mount.probe.call(os.mkdir, mount.path("a/b"))
    web.wait_held(1)
    mount.write_file("unrelated", b"x")
    mount.probe.call(os.rename, mount.path("unrelated"), mount.path("a/b/later.txt"))
    response = client.response()
    assert response.status == 200 and response.rest() == b"x"


def test_prefer_wait_has_a_limit(mount, web):
    start = time.monotonic()
    assert web.request("/never", Prefer="wait=1").status == 404
    assert 1 <= time.monotonic() - start
    assert web.request("/never", Prefer="wait=0").status == 404
    assert web.request("/never").status == 404


# -- clients and servers that leave

@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_is_noticed_within_a_second(growing, how):
    mount, web, writer = growing
    body, held, name = web.request("/f.txt"), web.connect(), web.connect()
    body.exactly(100)
    held.begin("/f.txt", Range="bytes=200-")
    name.begin("/never", Prefer="wait=1000")
    web.wait_held(3)
    for client in (body.client, held, name):
        getattr(client, how)()
    start = time.monotonic()
    web.wait_held(0)
    assert time.monotonic() - start < procs.seconds(1)
    web.wait_metric("followed_files", 0)
    web.wait_metric("connections", 0)
    assert web.metric("clients_gone_total") == 3


def test_many_followers_share_one_descriptor(growing):
    mount, web, writer = growing
    before = len(procs.descriptors(web.pid))
    responses = [web.request("/f.txt") for _ in range(50)]
    for response in responses:
        assert response.exactly(100) == pattern(100)
    web.wait_held(50)
    # A socket for each, one handle for all; and up to two connections that asked for metrics.
    assert len(procs.descriptors(web.pid)) <= before + 50 + 1 + 2
    assert web.metric("followed_files") == 1
    writer.write(b"more")
    for response in responses:
        assert response.exactly(4) == b"more"
    writer.close()
    for response in responses:
        assert response.rest() == b""


def test_drain_lets_followers_end(serve, mount):
    web = serve(mount.mnt, "--drain-timeout=60", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(b"begin")
    idle = web.connect()
    idle.request("/", "HEAD")
    response = web.request("/f.txt")
    assert response.exactly(5) == b"begin"
    web.process.send_signal(signal.SIGTERM)
    assert idle.is_closed()
    writer.write(b"end")
    writer.close()
    assert response.rest() == b"end"
    assert web.wait() == 0


def test_drain_ends_with_a_cut(serve, mount):
    web = serve(mount.mnt, "--drain-timeout=0.1", identity=mount.identity())
    web.allow_log("cutting 3 connections")
    writer = mount.writer("f.txt")
    writer.write(b"begin")
    response, held = web.request("/f.txt"), web.connect().begin("/f.txt", Range="bytes=99-")
    waiting = web.connect().begin("/never", Prefer="wait=1000")
    assert response.exactly(5) == b"begin"
    web.wait_held(3)
    web.process.send_signal(signal.SIGTERM)
    assert response.cut() == ("closed", b"")
    assert held.is_closed() and waiting.is_closed()
    assert web.wait() == 0
    assert [line["outcome"] for line in web.logged(3)] == ["stopped"] * 3  # nobody left
    writer.close()


def test_a_mount_that_goes_away(serve, make_mount):
    mount = make_mount("off")
    web = serve(mount.mnt)
    web.allow_log("lost a growing file|Transport endpoint is not connected")
    writer = mount.writer("f.txt")
    writer.write(b"begin")
    response = web.request("/f.txt")
    assert response.exactly(5) == b"begin"
    web.wait_held(1)
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    assert response.cut() == ("closed", b"")
    assert web.request("/f.txt").status == 503
    assert web.request("/").status == 503
    mounts.rescue(mount.mnt)
    assert web.request("/").status == 503  # what lies below is not what was served
    web.allow_log("is back")
    second = make_mount("off", store=mount.store, mnt=mount.mnt)
    procs.wait_until(lambda: web.request("/").status == 200, "the server to find the new mount")
    writer = second.writer("g.txt")
    writer.write(b"begin")
    response = web.request("/g.txt")
    assert response.exactly(5) == b"begin"
    writer.agent.kill()
    assert response.cut() == ("closed", b"")


def test_a_mount_below_the_root_that_goes_away(serve, make_mount):
    mount = make_mount("off")
    mount.write_file("f.txt", b"x")
    web = serve(os.path.dirname(mount.mnt))
    # but not that the root is back; the second at the very moment
    web.allow_log("Transport endpoint is not connected|Software caused connection abort")
    name = f"/{os.path.basename(mount.mnt)}/f.txt"
    assert web.get(name) == b"x"
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    assert web.request(name).status == 503
    time.sleep(1.2)  # the root is looked for each second
    assert web.request(f"/{os.path.basename(mount.store)}/f.txt").status == 200
    mounts.rescue(mount.mnt)
    make_mount("off", store=mount.store, mnt=mount.mnt)
    assert web.get(name) == b"x"


def test_a_mount_is_looked_for_when_only_its_health_is_asked(serve, make_mount):
    """As by what sends a server no requests until it is well again."""
    mount = make_mount("off")
    web = serve(mount.mnt)

    def health():
        with contextlib.closing(server.Client(web.metrics_port)) as client:
            return client.request("/healthz").status
    assert health() == 200
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    procs.wait_until(lambda: health() == 503, "the server to notice")
    mounts.rescue(mount.mnt)
    web.allow_log("is back")
    make_mount("off", store=mount.store, mnt=mount.mnt)
    procs.wait_until(lambda: health() == 200, "the server to find the new mount")


def test_a_mount_that_goes_away_while_it_is_asked(serve, make_mount):
    mount = make_mount("off")
    mount.write_file("f.txt", b"x")
    web = serve(mount.mnt)
    web.allow_log("")  # of the root, too
    mount.failed = True  # it is not to be judged
    procs.pause(mount.pid)
    client = web.connect()
    client.begin("/f.txt")
    procs.wait_until(lambda: mount.waiting() > 0, "the mount to be asked")
    procs.kill(mount.pid)
    assert client.response().status == 503


def test_a_mount_that_does_not_answer_holds_nobody_else(serve, make_mount):
    """While it is asked whether a download is still of the same file."""
    mount = make_mount("off")
    mount.write_file("f.bin", pattern(4 << 20))
    web = serve(os.path.dirname(mount.mnt))
    with open(os.path.join(web.root, "plain"), "wb") as f:
        f.write(b"x")
    response = web.request(f"/{os.path.basename(mount.mnt)}/f.bin")
    data = response.at_least(1)
    procs.pause(mount.pid)
    procs.wait_until(lambda: procs.blocked_in(web.pid, "fgetxattr"), "the mount to be asked")
    assert web.get("/plain") == b"x", "by the other worker"
    procs.kill(mount.pid, signal.SIGCONT)
    assert data + response.rest() == pattern(4 << 20)


def test_the_live_query_has_no_ranges_while_the_file_grows(growing):
    """For media players: they ask for bytes=0- and take the answer for the whole."""
    _, web, writer = growing
    response = web.request("/f.txt?live", Range="bytes=0-")
    assert response.status == 200 and response.headers["transfer-encoding"] == "chunked"
    assert response.exactly(100) == pattern(100)
    writer.write(b"more")
    assert response.exactly(4) == b"more"
    writer.close()
    assert response.some() == b""
    web.wait_held(0)
    response = web.request("/f.txt?live", Range="bytes=100-")
    assert (response.status, response.rest()) == (206, b"more")


# -- listings

def test_listing_shows_states_and_live_sizes(growing):
    mount, web, writer = growing
    mount.write_file("done.txt", b"done")
    entries = {e["name"]: e for e in json.loads(web.get("/", Accept="application/json"))["entries"]}
    assert entries["f.txt"]["state"] == "growing" and entries["f.txt"]["size"] == 100
    assert entries["done.txt"]["state"] == "complete" and entries["done.txt"]["size"] == 4
    assert ".rww" not in entries
    assert b'<span class="state growing">growing</span>' in web.get("/")
    writer.write(b"x")
    assert json.loads(web.get("/", Accept="application/json"))["entries"][1]["size"] == 101


def test_listing_shows_states_of_a_mount_below_the_root(growing, serve):
    mount = growing[0]
    web = serve(os.path.dirname(mount.mnt), identity=mount.identity())
    page = web.get(f"/{os.path.basename(mount.mnt)}/", Accept="application/json")
    entry, = json.loads(page)["entries"]
    assert (entry["name"], entry["state"], entry["size"]) == ("f.txt", "growing", 100)


def test_the_mounts_own_folder_is_hidden(web):
    assert web.request("/.rww/status").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_what_the_mount_makes_up_is_no_file(serve, mount, method):
    web = serve(mount.mnt, "--dotfiles", "--upload", identity=mount.identity())
    assert web.request("/.rww/status", method).status == 403
    assert web.get("/", Accept="application/json").count(b"name") == 0


# -- a mount that does not answer

@pytest.fixture
def stuck(request, serve, mount):
    """stuck(drain): a server that asks a mount which does not answer, its main thread as well."""
    def make(drain):
        mount.write_file("big.bin", pattern(8 << 20))
        web = serve(mount.mnt, f"--drain-timeout={drain}", identity=mount.identity())
        web.allow_log("does not answer")
        mount.writer("f.txt").write(b"hello")
        assert web.request("/f.txt").exactly(5) == b"hello"
        web.request("/big.bin")  # and takes no more of it
        procs.pause(mount.pid)
        request.addfinalizer(lambda: procs.kill(mount.pid, signal.SIGCONT))
        procs.wait_until(lambda: procs.blocked_in(web.pid, "fgetxattr"), "main to ask the mount")
        return web
    return make


@pytest.mark.modes("on", "user")
def test_a_mount_that_does_not_answer_holds_the_end_up_for_five_seconds(stuck):
    web = stuck(1)
    web.process.send_signal(signal.SIGTERM)
    assert web.wait() == -signal.SIGKILL
    assert "does not answer" in web.log()


@pytest.mark.modes("on")
def test_a_second_signal_does_not_wait_to_drain(stuck):
    web = stuck(3600)
    web.process.send_signal(signal.SIGTERM)
    procs.wait_until(lambda: not is_pending(web.pid, signal.SIGTERM), "the signal to be taken")
    web.process.send_signal(signal.SIGTERM)
    assert web.wait() == -signal.SIGKILL


def is_pending(pid, sig):
    with open(f"/proc/{pid}/status") as f:
        masks = [line.split()[1] for line in f if line.startswith("ShdPnd:")]
    return bool(int(masks[0], 16) >> (sig - 1) & 1)


# -- the whole, with real programs

def test_curl_follows_a_writer_in_many_pieces(mount, web, tmp_path):
    data = pattern(5 << 20)
    writer = mount.writer("f.bin")
    outs = [tmp_path / str(i) for i in range(4)]
    curls = [subprocess.Popen(["curl", "-sS", *version, "-o", str(out), web.url("/f.bin")],
                              preexec_fn=procs.die_with_parent)
             for out, version in zip(outs, (["--http1.1"], ["--http1.0"], ["-N"], []))]
    offset, step = 0, 1
    while offset < len(data):
        writer.write(data[offset:offset + step])
        offset += step
        step = step * 3 % 300007 + 1
    writer.close()
    for curl in curls:
        assert curl.wait(procs.seconds(60)) == 0
    for out in outs:
        assert out.read_bytes() == data
