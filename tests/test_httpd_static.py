# SPDX-License-Identifier: MIT
"""rww-httpd on a plain directory: what any static web server does, and what it must not do."""
import email.utils
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import pytest

from harness import procs, server
from harness.data import pattern
from harness.tools import need

pytestmark = [pytest.mark.sanitize]

BIG = pattern(3 << 20)


@pytest.fixture
def site(base):
    tmp_path = pathlib.Path(tempfile.mkdtemp(dir=base))
    os.chmod(tmp_path, 0o755)
    (tmp_path / "a.txt").write_bytes(b"hello world\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big.bin").write_bytes(BIG)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "b.html").write_bytes(b"<p>b")
    (tmp_path / ".secret").write_bytes(b"secret")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"secret")
    return tmp_path


@pytest.fixture
def web(serve, site):
    return serve(site)


def aged(path):
    """A file last changed long enough ago for a strong validator."""
    procs.wait_until(lambda: time.time() - os.stat(path).st_ctime > 0.05, "the file to age")


# -- files

def test_get(web):
    response = web.request("/a.txt")
    assert (response.status, response.version) == (200, "HTTP/1.1")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-length"] == "12"
    assert response.headers["accept-ranges"] == "bytes"
    assert email.utils.parsedate_to_datetime(response.headers["date"])
    assert response.rest() == b"hello world\n"


def test_last_modified_is_that_of_the_file(web, site):
    os.utime(site / "a.txt", (784111777, 784111777))
    response = web.request("/a.txt")
    assert response.headers["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_big_file_comes_whole(web):
    assert web.get("/big.bin") == BIG


def test_empty_file(web):
    response = web.request("/empty")
    assert (response.status, response.headers["content-length"]) == (200, "0")


@pytest.mark.parametrize("target", ["/a.txt", "/big.bin", "/", "/empty"])
def test_head_mirrors_get(web, site, target):
    aged(site / target[1:])
    get, head = web.request(target), web.request(target, "HEAD")
    assert head.status == get.status
    ignore = {"date"}
    assert {k: v for k, v in head.headers.items() if k not in ignore} == \
        {k: v for k, v in get.headers.items() if k not in ignore}


def test_connection_is_kept_and_requests_are_pipelined(web):
    client = web.connect()
    for target in ("/a.txt", "/nope", "/dir", "/a.txt"):
        client.begin(target)
    answers = []
    for _ in range(4):
        response = client.response()
        response.rest()
        answers.append(response.status)
    assert answers == [200, 404, 301, 200]


def test_http_1_0(web):
    response = web.request("/a.txt", version="1.0", Host=None)
    assert response.status == 200 and response.rest() == b"hello world\n"
    assert response.client.is_closed()


@pytest.mark.parametrize("name, kind", [
    ("x.html", "text/html; charset=utf-8"), ("x.mp4", "video/mp4"), ("x.ts", "video/mp2t"),
    ("x.m3u8", "application/vnd.apple.mpegurl"), ("x.mpd", "application/dash+xml"),
    ("x.json", "application/json; charset=utf-8"), ("x.unheardof", "application/octet-stream"),
    ("x", "application/octet-stream"), ("x.LOG", "text/plain; charset=utf-8"),
])
def test_media_type(web, site, name, kind):
    (site / name).write_bytes(b"x")
    assert web.request(f"/{name}").headers["content-type"] == kind


def test_names_are_decoded(web, site):
    (site / "a b & ü %.txt").write_bytes(b"odd")
    assert web.get("/a%20b%20%26%20%C3%BC%20%25.txt") == b"odd"
    assert web.get("/dir/..//./%61.txt") == b"hello world\n"


def test_absolute_form(web):
    assert web.get("http://elsewhere/a.txt") == b"hello world\n"


# -- ranges of complete files (RFC 9110 section 14)

@pytest.mark.parametrize("value, first, last", [
    ("bytes=0-0", 0, 0), ("bytes=6-10", 6, 10), ("bytes=6-", 6, 11), ("bytes=-5", 7, 11),
    ("bytes=-500", 0, 11), ("bytes=0-999", 0, 11), ("bytes=3-9007199254740991", 3, 11),
    ("bytes=99-,1-2", 1, 2),
])
def test_single_range(web, value, first, last):
    response = web.request("/a.txt", Range=value)
    assert response.status == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/12"
    assert response.rest() == b"hello world\n"[first:last + 1]


@pytest.mark.parametrize("value", ["bytes=12-", "bytes=-0", "bytes=99-100,12-"])
def test_unsatisfiable_range(web, value):
    response = web.request("/a.txt", Range=value)
    assert (response.status, response.headers["content-range"]) == (416, "bytes */12")


@pytest.mark.parametrize("value, status", [("bytes=-5", 200), ("bytes=-0", 416), ("bytes=0-", 416),
                                           ("bytes=0-0,-1", 200)])
def test_range_of_an_empty_file(web, value, status):
    """RFC 9110 section 14.1.2: its last bytes are there, all none of them."""
    response = web.request("/empty", Range=value)
    assert (response.status, response.headers.get("content-range")) == (
        status, "bytes */0" if status == 416 else None)


@pytest.mark.parametrize("value", ["bytes=2-1", "bytes=x", "lines=1-2", "bytes=1-2;", "bytes=0-,0-",
                                   "bytes=" + ",".join("0-0" for _ in range(1000))])
def test_range_to_be_ignored(web, value):
    response = web.request("/a.txt", Range=value)
    assert response.status == 200 and response.rest() == b"hello world\n"


def test_multiple_ranges(web):
    response = web.request("/big.bin", Range="bytes=0-99,1000000-1999999,-10")
    assert response.status == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)",
                            response.headers["content-type"])[1].encode()
    body = response.rest()
    assert len(body) == int(response.headers["content-length"])
    parts = body.split(b"--" + boundary)
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    expected = [(0, 99), (1000000, 1999999), (len(BIG) - 10, len(BIG) - 1)]
    for part, (first, last) in zip(parts[1:-1], expected, strict=True):
        head, data = part.split(b"\r\n\r\n", 1)
        assert f"Content-Range: bytes {first}-{last}/{len(BIG)}".encode() in head
        assert data == BIG[first:last + 1] + b"\r\n"


def test_big_range_by_sendfile(web):
    response = web.request("/big.bin", Range="bytes=1000001-2000000")
    assert response.rest() == BIG[1000001:2000001]


def test_range_is_for_get_only(web):
    assert web.request("/a.txt", "HEAD", Range="bytes=0-0").status == 200


# -- conditions (RFC 9110 section 13)

def test_not_modified(web, site):
    aged(site / "a.txt")
    first = web.request("/a.txt")
    first_body = first.rest()
    tag, date = first.headers["etag"], first.headers["last-modified"]
    assert re.fullmatch(r'"[0-9a-f-]+"', tag)
    for headers in ({"If_None_Match": tag}, {"If_None_Match": f'"x", W/{tag}'},
                    {"If_None_Match": "*"}, {"If_Modified_Since": date}):
        response = web.request("/a.txt", **headers)
        assert response.status == 304 and response.headers["etag"] == tag
        assert response.headers.get("content-length") in (None, first.headers["content-length"])
        assert response.client.request("/a.txt").rest() == first_body
    for headers in ({"If_None_Match": '"x"'}, {"If_None_Match": '"x"', "If_Modified_Since": date},
                    {"If_Modified_Since": "Sun, 06 Nov 1994 08:49:37 GMT"}):
        assert web.get("/a.txt", **headers) == b"hello world\n"


def test_precondition_failed(web, site):
    aged(site / "a.txt")
    tag = web.request("/a.txt").headers["etag"]
    assert web.request("/a.txt", If_Match='"x"').status == 412
    assert web.request("/a.txt", If_Unmodified_Since="Sun, 06 Nov 1994 08:49:37 GMT").status == 412
    assert web.request("/a.txt", If_Match=tag).status == 200


def test_if_range(web, site):
    aged(site / "a.txt")
    tag = web.request("/a.txt").headers["etag"]
    assert web.request("/a.txt", Range="bytes=0-0", If_Range=tag).status == 206
    assert web.request("/a.txt", Range="bytes=0-0", If_Range='"x"').status == 200


def test_a_changed_file_has_another_tag(web, site):
    aged(site / "a.txt")
    tag = web.request("/a.txt").headers["etag"]
    (site / "a.txt").write_bytes(b"HELLO WORLD\n")
    os.utime(site / "a.txt", (1, 1))
    aged(site / "a.txt")
    other = web.request("/a.txt").headers["etag"]
    os.utime(site / "a.txt", (1, 1))
    assert other != tag and web.request("/a.txt", If_None_Match=tag).status == 200


def test_headers_of_one_name_are_one_list(web, site):
    aged(site / "a.txt")
    tag = web.request("/a.txt").headers["etag"]
    client = web.connect().send(
        f'GET /a.txt HTTP/1.1\r\nHost: x\r\nIf-None-Match: "x"\r\nIf-None-Match: {tag}\r\n\r\n'
        .encode())
    assert client.response().status == 304


# -- what is not for the web

@pytest.mark.parametrize("target", [
    "/../etc/passwd", "/dir/../../etc/passwd", "/%2e%2e/etc/passwd", "/%2e%2e%2fetc/passwd",
    "/dir/..%2f..%2f/etc/passwd", "/a.txt%00", "/%", "/%zz", "/%4", "a.txt", "*",
])
def test_malformed_path(web, target):
    assert web.request(target).status == 400


@pytest.mark.parametrize("target", ["/.secret", "/.git/config", "/%2egit/config", "/dir/../.secret"])
def test_dot_files_are_hidden(web, serve, site, target):
    assert web.request(target).status == 404
    assert serve(site, "--dotfiles").get(target) == b"secret"


def test_symlinks_may_not_leave_the_root(web, site, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_bytes(b"secret")
    (site / "absolute").symlink_to(outside / "secret.txt")
    (site / "relative").symlink_to(f"../{outside.name}/secret.txt")
    (site / "up").symlink_to(f"../{outside.name}")
    (site / "magic").symlink_to("/proc/self/environ")
    (site / "inside").symlink_to("dir/b.html")
    for name in ("/absolute", "/relative", "/up/secret.txt", "/up/", "/magic"):
        assert web.request(name).status == 404, name
    assert web.get("/inside") == b"<p>b"
    names = {e["name"] for e in json.loads(web.get("/", Accept="application/json"))["entries"]}
    assert "inside" in names and not names & {"absolute", "relative", "up", "magic"}
    web.allow_log("Invalid cross-device link")


def test_special_files(web, site):
    os.mkfifo(site / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(site / "socket"))
    for name in ("/fifo", "/socket"):
        assert web.request(name).status == 403


@pytest.mark.skipif(os.geteuid() != 0, reason="root: needed to become another user")
@pytest.mark.skipif(os.geteuid() != 0, reason="root: needed to mount")
@pytest.mark.parametrize("root", ["", "other"])
def test_another_fuse_filesystem_is_a_directory_like_any(serve, site, folder, root):
    need("bindfs")
    (folder / "other").mkdir()
    subprocess.run(["bindfs", site, folder / "other"], check=True)
    try:
        web = serve(folder / root, "--upload")
        assert "not an rwwfs mount" in web.log()
        target = "/a.txt" if root else "/other/a.txt"
        assert web.get(target) == b"hello world\n"
        assert web.request(target, "PUT", body=b"new").status == 204
        assert web.get(target) == b"new"
        web.stop()
    finally:
        subprocess.run(["umount", "-l", folder / "other"], check=True)


def test_unreadable_file(serve, site):
    (site / "a.txt").chmod(0)
    web = serve(site, identity={"user": 65534, "group": 65534, "extra_groups": []})
    assert web.request("/a.txt").status == 403


def test_an_index_file_that_may_not_be_read(serve, site):
    """It is there all the same: the directory is not shown instead."""
    (site / "dir").mkdir(exist_ok=True)
    (site / "dir" / "index.html").touch(0)
    web = serve(site, identity={"user": 65534, "group": 65534, "extra_groups": []})
    assert web.request("/dir/").status == 403
    assert web.request("/dir/", Accept="application/json").status == 200


def test_an_index_that_is_a_directory(web, site):
    (site / "dir" / "index.html").mkdir()
    assert b'"./index.html/"' in web.get("/dir/")


def test_slash_at_the_end(web):
    assert web.request("/a.txt/").status == 404
    response = web.request("/dir?x=y")
    assert (response.status, response.headers["location"]) == (301, "/dir/?x=y")
    assert response.headers["cache-control"] == "no-cache"  # it may be a file tomorrow


def test_long_names(web):
    assert web.request("/" + "a" * 300).status == 404
    assert web.request("/" + "a/" * 2100).status == 414


# -- directories

@pytest.mark.skipif(os.geteuid() != 0, reason="root: mounts a filesystem with such times")
def test_times_that_have_no_year_are_listed(serve, base):
    """Of tmpfs and others; the store may have them, too."""
    folder = tempfile.mkdtemp(dir=base)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        subprocess.run(["touch", "-d", "@4611686018427387904", f"{folder}/f"], check=True)
        web = serve(folder)
        (entry,) = json.loads(web.get("/", Accept="application/json"))["entries"]
        assert entry["modified"] == "1970-01-01T00:00:00.000Z"
        assert b'<td class="time">1970-01-01 00:00</td>' in web.get("/")
        aged(pathlib.Path(folder, "f"))
        tag = web.request("/f").headers["etag"]
        assert web.request("/f", If_None_Match=tag).status == 304
        web.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_json_listing(web, site):
    (site / 'odd "\\ name\n').write_bytes(b"x")
    listing = json.loads(web.get("/", Accept="application/json"))
    entries = {e["name"]: e for e in listing["entries"]}
    assert set(entries) == {"a.txt", "big.bin", "dir", "empty", 'odd "\\ name\n'}
    assert entries["a.txt"]["size"] == 12 and entries["a.txt"]["state"] == "complete"
    assert entries["dir"]["type"] == "directory" and entries["dir"]["href"] == "./dir/"
    assert web.get(entries['odd "\\ name\n']["href"][1:]) == b"x"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entries["a.txt"]["modified"])


@pytest.mark.parametrize("accept, kind", [
    ("application/json", "json"), ("APPLICATION/JSON;charset=utf-8", "json"), ("*/*", "html"),
    ("application/*", "html"), ("", "html"), ("application/json, text/plain, */*", "json"),
    ("text/html, application/json", "html"), ("text/html;q=0.1,application/json", "json"),
    ("text/html;level=1 ; Q=0.8, application/json;q=0.9", "json"), ("application/jsonx", "html"),
    ("application/json;q=0.5, text/html;q=0.50", "html"), ("application/json;q=0.000", "html"),
    ("text/html;q=0.001, application/json; q=0.002", "json"), ("application/json;q=0", "html"),
    ("text/html;q=0, application/json;q=1.000", "json"), (",, application/json ,", "json"),
    ("xapplication/json", "html"), ("text/html;q=0.99, application/json;q=nonsense", "json")])
def test_listing_is_what_the_client_prefers(web, accept, kind):
    response = web.request("/", Accept=accept)
    assert kind in response.headers["content-type"] and response.headers["vary"] == "Accept"


def test_html_listing_is_escaped(web, site):
    (site / "<script>&'\".txt").write_bytes(b"x")
    page = web.get("/").decode()
    assert "<script>&'" not in page
    assert "&#60;script&#62;&#38;&#39;&#34;.txt" in page
    assert "./%3Cscript%3E%26%27%22.txt" in page
    assert ".secret" not in page


@pytest.mark.parametrize("name, element", [("a.mp3", b"<audio "), ("a.mp4", b"<video ")])
def test_players(web, site, name, element):
    (site / name).write_bytes(b"x")
    assert element + f'controls src="./{name}?live"'.encode() in web.get(f"/{name}?view")


def test_index_file(web, serve, site):
    (site / "dir" / "index.html").write_bytes(b"index")
    response = web.request("/dir/")
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["vary"] == "Accept"  # or a cache has it for who wants JSON
    assert response.rest() == b"index"
    tag = response.headers["etag"]
    assert web.request("/dir/", If_None_Match=tag).headers["vary"] == "Accept"
    assert web.request("/dir/", Accept="application/json").headers["vary"] == "Accept"
    assert "vary" not in web.request("/dir/index.html").headers
    assert "index.html" in web.get("/dir/", Accept="application/json").decode()
    assert b"b.html" in serve(site, "--index=").get("/dir/")


def test_no_listing(serve, site):
    assert serve(site, "--no-listing").request("/").status == 403


def test_view_pages(web, site):
    (site / "film.mp4").write_bytes(b"x")
    assert b"<pre" in web.get("/a.txt?view")
    assert b'<video controls src="./film.mp4?live"' in web.get("/film.mp4?view")
    assert web.request("/film.mp4?live", Range="bytes=0-").status == 206


# -- malformed requests

@pytest.mark.parametrize("raw, status", [
    (b"GET /a.txt HTTP/1.1\r\n\r\n", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"BREW /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
    (b"PUT /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    (b"GET /a.txt HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    (b"\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204),
])
def test_raw_request(web, raw, status):
    response = web.connect().send(raw).response()
    assert response.status == status


@pytest.mark.parametrize("raw", [
    b"\0\0\0\0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n",
    b"GET /a.txt HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
])
def test_garbage_ends_the_connection(serve, site, raw):
    web = serve(site, "--header-timeout=1")
    client = web.connect()
    try:
        client.send(raw)
        assert client.response().status in (400, 414, 431)
    except (server.Cut, ConnectionError):
        pass
    assert web.get("/a.txt") == b"hello world\n"


def test_body_of_a_get_is_dropped(web):
    client = web.connect()
    response = client.request("/a.txt", body=b"x" * 100000)
    assert response.status == 200 and response.rest() == b"hello world\n"
    assert client.request("/a.txt").status == 200


# -- real clients

def test_curl_resumes(web, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "big.bin"
    out.write_bytes(BIG[:1000000])
    subprocess.run(["curl", "-sS", "-C", "-", "-o", str(out), web.url("/big.bin")], check=True,
                   timeout=30)
    assert out.read_bytes() == BIG


@pytest.mark.parametrize("wanted", [None, "bytes=0-0,2-"])
def test_a_file_that_shrinks_under_a_download_is_cut(web, site, wanted):
    (site / "shrinking").write_bytes(bytes(64 << 20))
    client = web.connect()
    response = client.request("/shrinking", Range=wanted)
    assert response.some()
    os.truncate(site / "shrinking", 100)
    how, body = response.cut()
    assert how in ("closed", "reset") and len(body) < 64 << 20
    web.wait_metric("cuts_total", 1)
    procs.wait_until(lambda: '"outcome":"aborted"' in web.access(), "a line in the log")


def test_clients_that_reset_leave_nothing(web):
    for target in ("/a.txt", "/big.bin", "/", "/nope"):
        for _ in range(20):
            client = web.connect()
            client.begin(target)
            client.reset()
    web.wait_metric("connections", 0)
