# SPDX-License-Identifier: MIT
"""rww-httpd: pages of large directories, which are gathered in turns."""
import json
import os

import pytest

from harness import procs

pytestmark = [pytest.mark.sanitize]

COUNT = 5_000


@pytest.fixture
def large(mount):
    os.mkdir(mount.stored("d"), 0o777)
    os.chmod(mount.stored("d"), 0o777)  # whatever the umask
    for i in range(COUNT):
        os.mknod(mount.stored(f"d/{i:05}"), 0o644)
    return mount


@pytest.fixture
def web(serve, large):
    """With one thread."""
    mount = large
    return serve(mount.mnt, "--threads=1", identity=mount.identity())


def has_open(web, folder):
    return folder in web.leaked().values()


def wait_begun(web):
    procs.wait_until(lambda: has_open(web, f"{web.root}/d"), "the page to be begun")


@pytest.mark.modes("on", "user")
def test_all_of_a_large_directory(large, web):
    mount = large
    writer = mount.writer("d/growing")
    writer.write(b"hello")
    mount.declare("d/growing", 10)
    mount.writer("d/aborted").write(b"hi")
    mount.abort("d/aborted")
    entries = json.loads(web.get("/d/", Accept="application/json"))["entries"]
    names = [entry["name"] for entry in entries]
    assert names == [f"{i:05}" for i in range(COUNT)] + ["aborted", "growing"]
    assert {entry["state"] for entry in entries[:COUNT]} == {"complete"}
    aborted, growing = entries[COUNT:]
    assert (aborted["state"], aborted["size"]) == ("aborted", 2)
    assert (growing["state"], growing["size"], growing["declared"]) == ("growing", 5, 10)


@pytest.mark.modes("on")
def test_others_are_served_while_a_large_page_is_made(large, web):
    large.write_file("small", b"hello")
    page, other = web.connect(), web.connect()
    page.begin("/d/")
    assert other.request("/small").rest() == b"hello"
    assert page.is_quiet(), "the page was made first"
    assert page.response().rest().count(b"<tr>") >= COUNT


@pytest.mark.modes("on")
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_leaves_before_its_page(web, how):
    client = web.connect()
    client.begin("/d/")
    wait_begun(web)
    getattr(client, how)()
    (line,) = web.logged(1)
    assert (line["status"], line["outcome"]) == (499, "client gone")


@pytest.mark.modes("on")
def test_the_end_of_the_server_before_a_page(web):
    client = web.connect()
    client.begin("/d/")
    wait_begun(web)
    web.stop()


def answers_after_gathering(web, folder, accept):
    """To somebody else, while a page is written: its directory was open and is closed. Whoever asks
    may be kept from the processor at that time."""
    page, other = web.connect(), web.connect()
    page.begin("/", Accept=accept)
    begun, answers = False, 0
    while page.is_quiet():
        assert other.request("/", "OPTIONS").status == 204
        gathering = has_open(web, folder)
        begun = begun or gathering
        answers += begun and not gathering
    assert page.response().rest().count(b"a-name-of") >= 60_000
    return answers


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_others_are_served_while_a_large_page_is_written(serve, tmp_path, accept):
    for i in range(60_000):
        os.mknod(tmp_path / f"a-name-of-some-length-{i}", 0o644)
    web = serve(tmp_path, "--threads=1")
    procs.wait_until(lambda: answers_after_gathering(web, str(tmp_path), accept) > 2,
                     "a page in parts", 30)
