# SPDX-License-Identifier: MIT
"""Uploads to rww-httpd: into a mount, where they are read while they arrive, and elsewhere."""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import procs
from harness.data import pattern

pytestmark = [pytest.mark.sanitize]


@pytest.fixture
def web(serve, mount):
    return serve(mount.mnt, "--upload", identity=mount.identity())


@pytest.fixture
def plain(serve, base):
    """(server, its directory) without a mount."""
    path = pathlib.Path(tempfile.mkdtemp(dir=base))
    return serve(path, "--upload"), path


def begin_put(web, target, length=None):
    """A PUT whose body has not come yet."""
    headers = {"Content_Length": length} if length is not None else {"Transfer_Encoding": "chunked"}
    return web.connect().begin(target, "PUT", **headers)


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


# -- on a mount

def test_put_is_read_while_it_arrives(mount, web):
    put = begin_put(web, "/new.bin")
    put.send(chunk(b"begin"))
    procs.wait_until(lambda: os.path.exists(mount.stored("new.bin")), "the file to appear")
    response = web.request("/new.bin")
    assert response.exactly(5) == b"begin"
    web.wait_held(1)
    put.send(chunk(b"more"))
    assert response.exactly(4) == b"more"
    put.send(b"0\r\n\r\n")
    assert put.response().status == 201
    assert response.rest() == b""
    assert mount.xattr("new.bin", "state") == "complete"
    assert mount.stored_bytes("new.bin") == b"beginmore"


def test_content_length_is_the_declared_size(mount, web):
    data = pattern(1 << 20)
    put = begin_put(web, "/new.bin", len(data))
    put.send(data[:1000])
    procs.wait_until(lambda: os.path.exists(mount.stored("new.bin")), "the file to appear")
    response = web.request("/new.bin")
    assert response.headers["content-length"] == str(len(data))
    assert response.exactly(1000) == data[:1000]
    put.send(data[1000:])
    assert put.response().status == 201
    assert response.rest() == data[1000:]


@pytest.mark.parametrize("length", [None, 100])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_broken_upload_aborts_the_file(mount, web, length, how):
    put = begin_put(web, "/new.bin", length)
    put.send(b"begin" if length else chunk(b"begin"))
    procs.wait_until(lambda: os.path.exists(mount.stored("new.bin")), "the file to appear")
    response = web.request("/new.bin")
    assert response.exactly(5) == b"begin"
    getattr(put, how)()
    assert response.cut()[1] == b""
    mount.wait_state("new.bin", "aborted")
    assert mount.xattr("new.bin", "reason") == "the upload broke off"
    web.wait_metric("uploads_broken_total", 1)


def test_put_over_a_followed_file_leaves_its_followers_alone(mount, web):
    writer = mount.writer("f.txt")
    writer.write(b"old")
    response = web.request("/f.txt")
    assert response.exactly(3) == b"old"
    web.wait_held(1)
    assert web.request("/f.txt", "PUT", body=b"new content").status == 204
    assert web.get("/f.txt") == b"new content"
    writer.write(b" continues")
    assert response.exactly(10) == b" continues"
    writer.close()
    assert response.rest() == b""


def test_two_puts_to_one_name(mount, web):
    first = begin_put(web, "/f.txt")
    first.send(chunk(b"first"))
    procs.wait_until(lambda: os.path.exists(mount.stored("f.txt")), "the file to appear")
    follower = web.request("/f.txt")
    assert follower.exactly(5) == b"first"
    assert web.request("/f.txt", "PUT", body=b"second").status == 204
    assert web.get("/f.txt") == b"second"
    first.send(chunk(b" ends") + b"0\r\n\r\n")
    assert first.response().status == 201
    assert follower.rest() == b" ends"
    assert web.get("/f.txt") == b"second"
    assert os.listdir(mount.store) == ["f.txt"]


# -- anywhere

@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "MKCOL", "OPTIONS"])
@pytest.mark.parametrize("length", [None, "0", "00"])
def test_a_body_that_does_not_come_is_not_waited_for(plain, method, length):
    """libmicrohttpd would say 100, and take the next request for the body."""
    web, path = plain
    if method in ("GET", "DELETE"):
        (path / "a").write_bytes(b"x")
    client = web.connect()
    client.begin("/a", method, Expect="100-continue", Content_Length=length)
    client.begin("/", "OPTIONS")
    expected = {"GET": 200, "PUT": 201, "DELETE": 204, "MKCOL": 201, "OPTIONS": 204}[method]
    response = client.response()
    assert response.status == expected
    if method == "GET":
        assert response.rest() == b"x"
    assert client.response().status == 204



def test_an_end_that_comes_with_the_last_bytes_is_noticed(plain):
    """libmicrohttpd alone misses it: the upload would linger until the idle timeout."""
    web, path = plain
    for _ in range(100):
        put = begin_put(web, "/a.txt", 10)
        put.send(b"12345")
        put.close()
    web.wait_metric("uploads_broken_total", 100)
    procs.wait_until(lambda: web.metric("connections") == 0, "all to be noticed", 3)
    assert os.listdir(path) == []


def test_put_get_delete(plain):
    web, path = plain
    client = web.connect()
    assert client.request("/a.txt", "PUT", body=b"one").status == 201
    assert client.request("/a.txt", "PUT", body=b"two").status == 204
    assert client.request("/a.txt").rest() == b"two"
    assert client.request("/a.txt", "DELETE").status == 204
    assert client.request("/a.txt", "DELETE").rest() == b"404 Not Found\n"
    assert client.request("/empty", "PUT").status == 201
    assert (path / "empty").read_bytes() == b""
    assert os.listdir(path) == ["empty"]


def test_on_a_plain_directory_a_file_appears_when_it_is_whole(plain):
    web, path = plain
    put = begin_put(web, "/a.txt", 10)
    put.send(b"12345")
    web.wait_metric("uploads_total", 1)
    assert web.request("/a.txt").status == 404
    assert web.get("/", Accept="application/json").count(b"name") == 0
    put.send(b"67890")
    assert put.response().status == 201
    assert web.get("/a.txt") == b"1234567890"


def test_two_puts_to_one_name_in_a_plain_directory(plain):
    web, path = plain
    puts = []
    for number in (1, 2):
        puts.append(begin_put(web, "/f.txt", 5).send(b"put "))
        web.wait_metric("uploads_total", number)
    for number, status in ((2, 201), (1, 204)):
        puts[number - 1].send(b"%d" % number)
        assert puts[number - 1].response().status == status
    assert os.listdir(path) == ["f.txt"]
    assert web.get("/f.txt") == b"put 2"


@pytest.mark.parametrize("how", ["broken", "killed"])
def test_a_broken_upload_to_a_plain_directory_leaves_nothing(plain, how):
    web, path = plain
    (path / "a.txt").write_bytes(b"old")
    put = begin_put(web, "/a.txt", 10)
    put.send(b"12345")
    web.wait_metric("uploads_total", 1)
    if how == "killed":
        procs.kill(web.pid)
        assert web.wait() == -9
    else:
        put.close()
        web.wait_metric("uploads_broken_total", 1)
        assert web.get("/a.txt") == b"old"
    assert os.listdir(path) == ["a.txt"] and (path / "a.txt").read_bytes() == b"old"


def test_directories(plain):
    web, path = plain
    assert web.request("/a/b/c.txt", "PUT", body=b"x").status == 409
    assert web.request("/a/b/c.txt?parents", "PUT", body=b"x").status == 201
    assert web.get("/a/b/c.txt") == b"x"
    assert web.request("/a", "PUT", body=b"x").status == 409
    assert web.request("/a/", "PUT", body=b"x").status == 409
    assert web.request("/", "PUT", body=b"x").status == 409
    assert web.request("/new", "MKCOL").status == 201
    assert web.request("/new/", "MKCOL").status == 405
    assert web.request("/x/y", "MKCOL").status == 409
    assert web.request("/x/y/?parents", "MKCOL").status == 201
    assert web.request("/a", "DELETE").status == 409
    assert web.request("/new/", "DELETE").status == 204
    assert web.request("/", "DELETE").status == 403


def test_a_directory_that_is_removed_meanwhile(plain):
    """409 as when it was never there: what is missing is not what was sent."""
    web, path = plain
    (path / "dir").mkdir()
    client = begin_put(web, "/dir/x", 10).send(b"begin")
    web.wait_metric("uploads_total", 1)
    shutil.rmtree(path / "dir")
    client.send(b"-end.")
    assert client.response().status == 409
    assert os.listdir(path) == []


@pytest.mark.parametrize("below", ["/file/x", "/file/x/y", "/file/x?parents", "/file/x/y?parents"])
def test_nothing_is_made_below_a_file(plain, below):
    """RFC 4918 sections 9.3.1 and 9.7.1."""
    web, path = plain
    (path / "file").write_bytes(b"old")
    for headers in ({}, {"If_None_Match": "*"}):
        assert web.request(below, "PUT", body=b"new", **headers).status == 409
    assert web.request(below, "PUT", body=b"new", If_Match="*").status == 412
    assert web.request(below, "MKCOL").status == 409
    assert web.request(below, "DELETE").status == 404
    assert web.get("/file") == b"old" and os.listdir(path) == ["file"]


def test_names_that_may_not_be_written(plain, base):
    web, path = plain
    outside = pathlib.Path(tempfile.mkdtemp(dir=base))
    (path / "out").symlink_to(outside)
    (path / "link").symlink_to(outside / "target")
    assert web.request("/out/x", "PUT", body=b"x").status == 404
    assert web.request("/../x", "PUT", body=b"x").status == 400
    assert web.request("/.hidden", "PUT", body=b"x").status == 403
    assert web.request("/a/.hidden?parents", "PUT", body=b"x").status == 403
    assert web.request("/.hidden", "DELETE").status == 403
    assert web.request("/link", "PUT", body=b"x").status == 204  # replaces the link itself
    assert os.listdir(outside) == [] and (path / "link").read_bytes() == b"x"
    web.allow_log("Invalid cross-device link")


@pytest.mark.parametrize("name", ["n" * 256, "d" * 256 + "/x?parents"], ids=["file", "directory"])
def test_a_name_that_is_too_long_is_refused_before_the_body(plain, name):
    web, path = plain
    assert begin_put(web, f"/{name}", 1 << 30).response().status == 414
    assert web.request(f"/{name}", "MKCOL").status == 414
    assert web.request(f"/{name}", "DELETE").status == 404
    assert web.request("/" + "n" * 255, "PUT", body=b"x").status == 201
    assert os.listdir(path) == ["n" * 255]


def test_conditions(plain):
    web, path = plain
    assert web.request("/a.txt", "PUT", body=b"x", If_Match="*").status == 412
    assert web.request("/a.txt", "PUT", body=b"x", If_None_Match="*").status == 201
    assert web.request("/a.txt", "PUT", body=b"y", If_None_Match="*").status == 412
    assert web.request("/a.txt", "DELETE", If_Match='"other"').status == 412
    assert web.get("/a.txt") == b"x"


def test_a_date_that_is_for_reading_only_hinders_no_change(plain):
    """RFC 9110 section 13.1.3."""
    web, path = plain
    date = "Fri, 01 Jan 2100 00:00:00 GMT"
    assert web.request("/a", "PUT", body=b"x").status == 201
    last = web.request("/a", "HEAD").headers["last-modified"]
    assert web.request("/a", If_Modified_Since=last).status == 304
    assert web.request("/a", "PUT", body=b"y", If_Modified_Since=last).status == 204
    assert web.request("/a", "DELETE", If_Modified_Since=date).status == 204


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_white_space_behind_a_header_is_no_part_of_it(plain, space):
    """RFC 9112 section 5: the condition counts."""
    web, path = plain
    assert web.request("/a", "PUT", body=b"x").status == 201
    date = "Thu, 01 Jan 1970 00:00:00 GMT" + space
    assert web.request("/a", "DELETE", If_Unmodified_Since=date).status == 412
    last = web.request("/a", "HEAD", Host="test" + space).headers["last-modified"]
    assert web.request("/a", If_Modified_Since=last + space).status == 304


def test_what_cannot_be_read_exists(plain):
    web, path = plain
    os.mkfifo(path / "pipe")
    (path / "dir").mkdir()
    for name in ("pipe", "dir"):
        assert web.request(f"/{name}", "PUT", body=b"x", If_None_Match="*").status == 412
    assert sorted(os.listdir(path)) == ["dir", "pipe"]


@pytest.mark.parametrize("condition", ["none", "match", "date"])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_one_of_two_puts_with_a_condition_succeeds(plain, condition, order):
    """Both began before there was a reason to refuse one."""
    web, path = plain
    if condition != "none":
        (path / "f").write_bytes(b"old")
        os.utime(path / "f", (1, 1))
        with_date = {"If_Unmodified_Since": "Fri, 02 Jan 1970 00:00:00 GMT"}
        procs.wait_until(lambda: not web.request("/f").headers["etag"].startswith("W/"), "its age")
        headers = (with_date if condition == "date" else
                   {"If_Match": web.request("/f").headers["etag"]})
    else:
        headers = {"If_None_Match": "*"}
    puts = []
    for number in (1, 2):
        puts.append(web.connect().begin("/f", "PUT", Content_Length=5, **headers).send(b"put "))
        web.wait_metric("uploads_total", number)
    statuses = [puts[number - 1].send(b"%d" % number).response().status for number in order]
    assert statuses == [201 if condition == "none" else 204, 412]
    assert web.get("/f") == b"put %d" % order[0]
    assert os.listdir(path) == ["f"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("conditional", [1, 2])
def test_a_put_with_a_condition_and_one_without(plain, order, conditional):
    """The answers are those of one after the other."""
    web, path = plain
    puts = []
    for number in (1, 2):
        headers = {"If_None_Match": "*"} if number == conditional else {}
        puts.append(web.connect().begin("/f", "PUT", Content_Length=5, **headers).send(b"put "))
        web.wait_metric("uploads_total", number)
    answers = [(n, puts[n - 1].send(b"%d" % n).response().status) for n in order]
    if order[0] == conditional:
        assert [status for _, status in answers] == [201, 204]
        assert web.get("/f") == b"put %d" % order[1]
    else:
        assert [status for _, status in answers] == [201, 412]
        assert web.get("/f") == b"put %d" % order[0]


def put_in_one_moment(web, headers):
    """One body, whole; one client is told that it made the file, and no other is told so."""
    for turn in range(50):
        puts = [web.connect().begin(f"/{turn}", "PUT", Content_Length=1000, **headers)
                for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            bodies = [b"%d" % n * 1000 for n in range(4)]
            statuses = list(pool.map(lambda put, body: put.send(body).response().status,
                                     puts, bodies))
        assert sorted(statuses) == [201] + [412 if headers else 204] * 3
        body = web.get(f"/{turn}")
        assert body in bodies
        assert not headers or statuses[bodies.index(body)] == 201
        for put in puts:
            put.close()


@pytest.mark.parametrize("headers", [{}, {"If_None_Match": "*"}])
def test_puts_in_one_moment(mount, web, headers):
    put_in_one_moment(web, headers)


@pytest.mark.parametrize("headers", [{}, {"If_None_Match": "*"}])
def test_puts_in_one_moment_in_a_plain_directory(plain, headers):
    put_in_one_moment(plain[0], headers)


def put_and_delete(web, of_put, of_delete):
    """Their status, when both are sent in one moment."""
    def send(method, body, headers):
        response = web.request("/f", method, body=body, **headers)
        response.client.close()
        return response.status

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(send, ("PUT", "DELETE"), (b"new", b""), (of_put, of_delete)))


def test_a_put_over_what_exists_does_not_bring_back_what_is_deleted(plain):
    web, path = plain
    for _ in range(500):
        (path / "f").write_bytes(b"old")
        assert put_and_delete(web, {"If_Match": "*"}, {}) in [(204, 204), (412, 204)]


def test_a_delete_of_what_was_seen_does_not_take_what_was_put(plain):
    web, path = plain
    for _ in range(500):
        (path / "f").write_bytes(b"old")
        os.utime(path / "f", (0, 0))
        seen = {"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
        assert put_and_delete(web, {}, seen) in [(204, 412), (201, 204)]
        assert (path / "f").read_bytes() == b"new"


def test_limit_and_partial_puts(serve, base):
    path = pathlib.Path(tempfile.mkdtemp(dir=base))
    web = serve(path, "--upload", "--upload-limit=10")
    assert web.request("/a", "PUT", body=b"x" * 10).status == 201
    assert web.request("/b", "PUT", body=b"x" * 11).status == 413
    put = begin_put(web, "/c").send(chunk(b"x" * 11) + b"0\r\n\r\n")
    assert put.response().status == 413
    assert web.request("/d", "PUT", body=b"x", Content_Range="bytes 0-0/2").status == 400
    assert os.listdir(path) == ["a"]


def test_who_is_refused_before_all_is_sent_sees_an_orderly_end(plain):
    """Not a reset alone: clients that get one while they send do not look for an answer."""
    web, _ = plain
    client = web.connect().begin("/no/such", "PUT", body=pattern(100_000))
    assert client.response().rest().startswith(b"409 ")
    assert client.socket.recv(1) == b""


@pytest.mark.parametrize("options, methods", [
    ([], "GET, HEAD, OPTIONS"), (["--upload"], "GET, HEAD, OPTIONS, PUT, DELETE, MKCOL")])
def test_methods_that_are_not_offered(serve, base, options, methods):
    """Whoever asks; OPTIONS tells the same."""
    path = pathlib.Path(tempfile.mkdtemp(dir=base))
    (path / "tokens").write_text("secret\n")
    web = serve(path, f"--tokens={path}/tokens", *options)
    assert web.request("/a", "OPTIONS").headers["allow"] == methods
    for method in ("PUT", "DELETE", "MKCOL", "POST", "PATCH", "TRACE", "CONNECT", "PROPFIND",
                   "PROPPATCH", "COPY", "MOVE", "LOCK", "UNLOCK"):
        for body in (b"", b"x"):
            response = web.request("/a", method, body=body)
            if method in methods:
                assert response.status == 401
            else:
                assert (response.status, response.headers["allow"]) == (405, methods), method
    for method in ("BREW", "get", "X"):
        response = web.request("/a", method)
        assert response.status == 501 and "allow" not in response.headers
    assert os.listdir(path) == ["tokens"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root: needed to mount a small filesystem")
def test_a_full_disk(serve, base):
    path = tempfile.mkdtemp(dir=base)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], check=True)
    try:
        web = serve(path, "--upload")
        web.allow_log("No space left on device")
        assert web.request("/big", "PUT", body=b"x" * (2 << 20)).status == 507
        assert os.listdir(path) == []
        assert web.request("/small", "PUT", body=b"x").status == 201
        web.stop()
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_curl_uploads(plain, tmp_path):
    web, path = plain
    data = pattern(3 << 20)
    (tmp_path / "f").write_bytes(data)
    for extra in ([], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"],
                  ["--http1.0"]):
        done = subprocess.run(["curl", "-sSf", *extra, "-T", str(tmp_path / "f"), web.url("/f")],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (extra, done.stderr)
        assert (path / "f").read_bytes() == data
        (path / "f").unlink()


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("kind, name", [("hls", "s.m3u8"), ("dash", "s.mpd")])
def test_ffmpeg_ingest(mount, serve, kind, name):
    """ffmpeg pushes segments and playlists over each other; another one plays the result.

    It does not wait for answers, so only one thread begins its uploads in their order.
    """
    web = serve(mount.mnt, "--upload", "--threads=1", identity=mount.identity())
    assert web.request("/live", "MKCOL").status == 201
    push = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10",
            "-t", "3", "-c:v", "mpeg2video" if kind == "hls" else "mpeg4", "-g", "10", "-f", kind]
    push += ["-hls_time", "1", "-hls_list_size", "0"] if kind == "hls" else ["-seg_duration", "1"]
    done = subprocess.run([*push, "-method", "PUT", web.url(f"/live/{name}")], timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = b"#EXT-X-ENDLIST" if kind == "hls" else b'type="static"'
    procs.wait_until(lambda: os.path.exists(mount.stored(f"live/{name}")) and
                     last in mount.stored_bytes(f"live/{name}"), "the last playlist")
    probe = subprocess.run(["ffprobe", "-loglevel", "error", "-show_entries", "format=duration", "-of",
                            "csv=p=0", web.url(f"/live/{name}")], timeout=60, capture_output=True,
                           text=True)
    assert float(probe.stdout.split()[0]) == pytest.approx(3, abs=0.2), probe.stderr
    assert not [n for n in os.listdir(mount.stored("live")) if n.startswith(".")]
