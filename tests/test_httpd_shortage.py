# SPDX-License-Identifier: MIT
"""What rww-httpd answers when it is short of something: descriptors, memory, room in a file, an answer
of a mount. A moment later, or for another request, there may be enough; until then no answer may be
wrong for want of it. The sanitizers have their own malloc, and need descriptors at the end."""
import base64
import json
import os
import resource

import pytest

from harness import procs, tools
from harness.data import pattern


# -- descriptors

def leave_descriptors(pid, count):
    """It can open so many more."""
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    free = [fd for fd in range(max(used) + count + 2) if fd not in used]
    limit_descriptors(pid, free[count])


def limit_descriptors(pid, limit):
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


@pytest.fixture
def client(serve, site):
    """On a connection that is there already."""
    (site / "dir").mkdir()
    (site / "dir" / "symbolic").symlink_to("../a.txt")
    (site / "index").mkdir()
    (site / "index" / "index.html").symlink_to("../a.txt")
    web = serve(site, "--upload")
    web.allow_log("Too many open files")
    client = web.connect()
    client.server = web
    assert client.request("/a.txt").rest() == b"hello world\n"
    return client


@pytest.mark.sanitize
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_page_lacks_no_name(client, accept):
    told = []
    for count in range(6):
        leave_descriptors(client.server.pid, count)
        response = client.request("/dir/", Accept=accept)
        told.append(response.status)
        assert response.status == 503 or b"symbolic" in response.rest(), count
        response.rest()
    assert told[0] == 503 and told[-1] == 200 and set(told) == {200, 503}


@pytest.mark.sanitize
def test_an_index_file_that_cannot_be_opened_for_now_is_there(client):
    told = []
    for count in range(6):
        leave_descriptors(client.server.pid, count)
        response = client.request("/index/")
        told.append(response.status)
        assert response.status == 503 or response.rest() == b"hello world\n", count
        response.rest()
    assert told[0] == 503 and told[-1] == 200 and set(told) == {200, 503}


@pytest.mark.parametrize("condition", [
    {"If_Unmodified_Since": "Sat, 01 Jan 2005 00:00:00 GMT"}, {"If_None_Match": '"another"'}])
def test_a_condition_that_cannot_be_looked_at_does_not_hold(client, site, condition):
    """Not even one that held when the upload began."""
    os.utime(site / "a.txt", (1_000_000_000, 1_000_000_000))
    client.begin("/a.txt", "PUT", Content_Length=10, **condition).send(b"begin")
    client.server.wait_metric("uploads_total", 1)
    (site / "a.txt").write_bytes(b"of another")
    limit_descriptors(client.server.pid, 3)
    client.send(b"-end.")
    assert client.response().status == 503
    assert (site / "a.txt").read_bytes() == b"of another"
    assert not [x for x in os.listdir(site) if x.startswith(".rww")]


def test_the_end_needs_no_descriptor(client):
    limit_descriptors(client.server.pid, 3)
    client.server.stop()


# -- memory

def test_a_password_that_cannot_be_hashed_is_not_wrong(serve, site, folder):
    """yescrypt of "ann", for which 16 MiB are needed: 401 would make a browser forget it."""
    (folder / "users").write_text("ann:$y$j9T$abcdefghijklmnop$"
                                  "rlN6u0ekl6TQr8wRkGV/GCEvyE9pAMEeZlaA8hsM022\n")
    web = serve(site, f"--htpasswd={folder}/users")
    web.allow_log("cannot hash a password")
    right = {"Authorization": "Basic " + base64.b64encode(b"ann:ann").decode()}
    soft, hard = resource.prlimit(web.pid, resource.RLIMIT_AS)
    resource.prlimit(web.pid, resource.RLIMIT_AS, (address_space(web.pid) + (4 << 20), hard))
    response = web.request("/a.txt", **right)
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    resource.prlimit(web.pid, resource.RLIMIT_AS, (soft, hard))
    assert web.get("/a.txt", **right) == b"hello world\n"
    assert web.metric("auth_failures_total") == 0


def address_space(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def short(serve, site, folder, helper):
    """(server, the file that makes it short of memory, see helpers/short_of_memory.c)"""
    preload = helper("short_of_memory", "-shared", "-fPIC")
    web = serve(site, "--upload", environment={"LD_PRELOAD": preload, "NO_MEMORY": f"{folder}/none"})
    web.allow_log("Cannot allocate memory")
    return web, folder / "none"


def test_who_waits_is_not_forgotten(short, site):
    """A large page is written in turns."""
    web, none = short
    (site / "dir").mkdir()
    for i in range(20_000):
        (site / "dir" / f"{i:05}").touch()
    none.touch()
    client = web.connect().begin("/dir/", Accept="application/json")
    procs.wait_until(lambda: none.stat().st_size, "a shortage")
    none.unlink()
    assert client.response().rest().count(b'"name"') == 20_000


@pytest.mark.parametrize("method, name", [
    ("GET", "If_Range"), ("GET", "If_Match"), ("PUT", "If_Match"), ("DELETE", "If_Match")])
def test_a_condition_that_there_is_no_memory_for_is_not_absent(short, site, method, name):
    web, none = short
    none.touch()
    fields = {name: '"' + "x" * 775 + '"', "Range": "bytes=0-4" if method == "GET" else None}
    response = web.request("/a.txt", method, body=b"new" if method == "PUT" else b"", **fields)
    assert response.status == 503
    assert none.stat().st_size
    assert (site / "a.txt").read_bytes() == b"hello world\n"
    none.unlink()


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_length_that_there_is_no_memory_for_is_no_end(short, site, nth):
    """It is looked at several times. Whoever is told that all has come finds all of it."""
    web, none = short
    none.write_text(str(nth))
    client = web.connect().begin("/new", "PUT", Content_Length=f"{5000:0777}")
    client.send(pattern(5000))
    if client.response().status == 201:
        assert (site / "new").read_bytes() == pattern(5000)
    else:
        assert not (site / "new").exists()
    none.unlink()


# -- room in a file

@pytest.mark.sanitize
@pytest.mark.parametrize("length", [None, 200_000])
def test_the_largest_file_that_a_process_may_write(serve, site, length):
    """RLIMIT_FSIZE: the signal that comes with it ended the server."""
    web = serve(site, "--upload", wrapper=["prlimit", "--fsize=100000"])
    before = sorted(os.listdir(site))
    if length:
        client = web.connect().begin("/new", "PUT", Content_Length=length).send(pattern(length))
    else:
        client = web.connect().begin("/new", "PUT", Transfer_Encoding="chunked")
        client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (200_000, pattern(200_000)))
    assert client.response().status == 413
    line, = web.logged(1)
    assert (line["status"], line["outcome"]) == (413, "aborted")
    assert sorted(os.listdir(site)) == before
    assert web.get("/a.txt") == b"hello world\n"


@pytest.mark.sanitize
@pytest.mark.modes("on", "off")
def test_the_largest_file_on_a_mount(serve, mount):
    web = serve(mount.mnt, "--upload", wrapper=["prlimit", "--fsize=100000"], identity=mount.identity())
    client = web.connect().begin("/new", "PUT", Content_Length=200_000).send(pattern(100_000))
    procs.wait_until(lambda: os.path.exists(mount.stored("new")) and
                     mount.stored_bytes("new") == pattern(100_000), "the upload")
    response = web.request("/new")
    assert response.exactly(100_000) == pattern(100_000)
    client.send(pattern(100_000))
    assert client.response().status == 413
    assert response.cut() == ("closed", b"")
    assert mount.xattr("new", "state") == "aborted"


# -- an answer of a mount

@pytest.mark.modes("on")
def test_a_name_that_goes_while_its_page_is_made(serve, mount):
    """The file that had it grows on: no page calls it complete."""
    tools.need("strace")
    os.mkdir(mount.path("d"))
    writer = mount.writer("d/old")
    writer.write(b"begin")
    web = serve(mount.mnt, wrapper=[
        "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=lgetxattr", "-e",
        "inject=lgetxattr:delay_enter=300000"])
    client = web.connect().begin("/d/", Accept="application/json")
    procs.wait_until(lambda: mount.path("d") in web.leaked().values(), "the page to be begun")
    os.rename(mount.path("d/old"), mount.path("new"))
    assert json.loads(client.response().rest())["entries"] == []
    writer.close()


@pytest.mark.modes("on", "off")
def test_a_mount_that_dies_before_it_is_asked(serve, mode, make_mount):
    """Whether the file is on an rwwfs at all: what is there so far is not taken for all of it."""
    tools.need("strace")
    mount = make_mount(mode)
    mount.writer("f.txt").write(b"begin")
    web = serve(os.path.dirname(mount.mnt), wrapper=[
        "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fstatfs", "-e",
        "inject=fstatfs:delay_enter=1000000"])
    web.allow_log("Transport endpoint is not connected")
    client = web.connect().begin(f"/{os.path.basename(mount.mnt)}/f.txt")
    procs.wait_until(lambda: any(target.endswith("/f.txt") for target in web.leaked().values()),
                     "the file to be opened")
    mount.failed = True  # it is not to be judged
    procs.kill(mount.pid)
    assert client.response().status == 503
