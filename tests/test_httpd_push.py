# SPDX-License-Identifier: MIT
"""rww-httpd sends new bytes to who follows at the live edge without running its request."""
import os
import signal
import socket
import threading

import pytest

from harness import procs, server
from harness.data import pattern, pieces

pytestmark = [pytest.mark.sanitize, pytest.mark.modes("on", "off")]


def follow(web, count, target="/f.txt", begin=100, **kwargs):
    """So many are held at byte 100."""
    responses = [web.request(target, **kwargs) for _ in range(count)]
    for response in responses:
        assert response.exactly(begin) == pattern(begin)
    return responses


def slow(web, **kwargs):
    """One whose kernel takes little on its behalf."""
    client = web.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    response = client.request("/f.txt", **kwargs)
    assert response.exactly(100) == pattern(100)
    return response


# -- at the live edge

@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_records_reach_all_followers(growing, version):
    mount, web, writer = growing
    responses = follow(web, 20, version=version)
    web.wait_held(20)
    data = pattern(300_000, seed=2)
    for record in pieces(data, 3, 20_000):
        writer.write(record)
        for response in responses:
            assert response.exactly(len(record)) == record
    writer.close()
    for response in responses:
        assert response.rest() == b""
    for line in web.logged(20):
        assert (line["bytes"], line["outcome"]) == (100 + len(data), "ok")
    assert web.metric("sent_bytes_total") == 20 * (100 + len(data))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_does_not_read_delays_nobody_and_misses_nothing(growing, version):
    mount, web, writer = growing
    late, others = slow(web, version=version), follow(web, 3, version=version)
    web.wait_held(4)
    data = pattern(8 << 20, seed=2)
    for at in range(0, len(data), 12_000):
        record = data[at:at + 12_000]
        writer.write(record)
        for response in others:
            assert response.exactly(len(record)) == record
    web.wait_held(3)  # the fourth waits for its client
    got = late.at_least(1 << 20)
    got += late.at_least(len(data) - len(got))
    assert got == data
    web.wait_held(4)
    writer.write(b"more")
    for response in (late, *others):
        assert response.exactly(4) == b"more"
    writer.close()
    for response in (late, *others):
        assert response.rest() == b""


def test_who_does_not_read_at_the_edge_is_let_go(serve, mount):
    web = serve(mount.mnt, "--idle-timeout=1", identity=mount.identity())
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    stalled, (reading,) = slow(web), follow(web, 1)
    web.wait_held(2)
    for _ in range(700):  # more than sockets hold
        writer.write(bytes(12_000))
        reading.exactly(12_000)
    (line,) = web.logged(1)
    assert line["outcome"] == "timeout" and line["bytes"] < 700 * 12_000
    stalled.cut()
    writer.write(b"more")
    assert reading.exactly(4) == b"more"
    writer.close()
    assert reading.rest() == b""


@pytest.mark.parametrize("how", ["close", "reset"])
def test_clients_that_leave_while_they_are_sent_to(growing, how):
    """Each round some leave between the write and what they would have got."""
    mount, web, writer = growing
    responses = follow(web, 60)
    sent = 100
    for leaving in range(0, 50, 5):
        record = pattern(5000 + leaving, seed=leaving)
        thread = threading.Thread(target=writer.write, args=(record,))
        thread.start()
        for response in responses[leaving:leaving + 5]:
            getattr(response.client, how)()
        thread.join()
        sent += len(record)
        for response in responses[leaving + 5:]:
            assert response.exactly(len(record)) == record
    web.wait_held(10)
    writer.close()
    for response in responses[50:]:
        assert response.rest() == b""
    lines = web.logged(60)
    assert sorted(line["outcome"] for line in lines) == ["client gone"] * 50 + ["ok"] * 10
    assert all(line["bytes"] == sent for line in lines if line["outcome"] == "ok")
    web.wait_metric("followed_files", 0)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_writer_at_full_speed_reaches_all(growing, version):
    """What was read for one is sent to others, at other places of the file, too."""
    mount, web, writer = growing
    data = os.urandom(12 << 20)
    bodies = []
    threads = [threading.Thread(target=lambda r: bodies.append(r.rest()), args=(r,))
               for r in follow(web, 6, version=version)]
    for thread in threads:
        thread.start()
    for record in pieces(data, 5, 2 << 20):
        writer.write(record)
    writer.close()
    for thread in threads:
        thread.join()
    assert len(bodies) == 6 and all(body == data for body in bodies)


def test_bytes_that_were_changed_are_read_again(growing):
    """As a muxer does that mends its header: who comes later gets the file as it is then."""
    mount, web, writer = growing
    writer.write(b"a" * (1 << 20))
    first = web.request("/f.txt")
    assert first.exactly(100 + (1 << 20)) == pattern(100) + b"a" * (1 << 20)
    web.wait_held(1)
    writer.pwrite(b"b" * 600_000, 200_000)
    writer.call(os.lseek, 0, os.SEEK_END)
    writer.write(b"end")
    assert first.exactly(3) == b"end"
    second = web.request("/f.txt")
    assert second.exactly(100 + (1 << 20) + 3) == pattern(100) + \
        b"a" * 199_900 + b"b" * 600_000 + b"a" * ((1 << 20) - 799_900) + b"end"
    writer.close()
    assert first.rest() == b"" and second.rest() == b""


def test_requests_behind_a_followed_file_are_answered(growing):
    mount, web, writer = growing
    mount.write_file("other", b"other")
    client = web.connect().begin("/f.txt").begin("/other")
    response = client.response()
    assert response.exactly(100) == pattern(100)
    web.wait_held(1)
    writer.write(b"x" * 5000)
    assert response.exactly(5000) == b"x" * 5000
    client.begin("/other")
    writer.write(b"y" * 5000)
    assert response.exactly(5000) == b"y" * 5000
    writer.close()
    assert response.rest() == b""
    assert [client.response().rest() for _ in range(2)] == [b"other"] * 2


def test_files_are_not_mixed_up(mount, web):
    writers = [mount.writer(f"f{k}") for k in range(4)]
    for writer in writers:
        writer.write(pattern(100))
    groups = [follow(web, 5, f"/f{k}") for k in range(4)]
    web.wait_held(20)
    for turn in range(20):
        records = [pattern(1000 * (k + 1) + turn, seed=10 * turn + k) for k in range(4)]
        for writer, record in zip(writers, records):
            writer.write(record)
        for group, record in zip(groups, records):
            for response in group:
                assert response.exactly(len(record)) == record
    for writer in writers:
        writer.close()
    for response in sum(groups, []):
        assert response.rest() == b""


def test_a_crowd_larger_than_one_turn(growing):
    mount, web, writer = growing
    count = 2500
    clients = [web.connect().begin("/f.txt") for _ in range(count)]
    web.wait_held(count)
    for _ in range(3):
        writer.write(b"x" * 1000)
    writer.close()
    for client in clients:
        assert client.response().rest() == pattern(100) + b"x" * 3000
        client.close()


def test_an_abort_in_the_middle_of_records(growing):
    mount, web, writer = growing
    responses = follow(web, 10)
    web.wait_held(10)
    for turn in range(20):
        writer.write(bytes([turn]) * 3000)
    mount.probe.call(os.setxattr, mount.path("f.txt"), "user.rww.state", b"aborted")
    expected = b"".join(bytes([turn]) * 3000 for turn in range(20))
    for response in responses:
        assert response.cut() == ("closed", expected)
    writer.close()


def test_a_drain_cuts_who_is_sent_to(serve, mount):
    web = serve(mount.mnt, "--drain-timeout=0.1", identity=mount.identity())
    web.allow_log("cutting 20 connections")
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    responses = follow(web, 20)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            writer.write(b"x" * 4000)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        web.process.send_signal(signal.SIGTERM)
        for response in responses:
            assert set(response.cut()[1]) <= {ord("x")}
        assert web.wait() == 0
    finally:
        stop.set()
        thread.join()
    writer.close()


def generation(k):
    """The k-th content of a file that is written anew and anew; no two share a byte. All are small:
    of complete ones above 32 KiB the server notices no change between the last looks."""
    return bytes([k + 1]) * (2000 + 1000 * k)


def body_of(web, results):
    """Appends (body, ended cleanly) of one follower."""
    client = server.Client(web.port)
    try:
        response = client.request("/f.txt")
        if response.status != 200:
            return
        try:
            results.append((response.rest(), True))
        except server.Cut as e:
            results.append((e.body, False))
    except (server.Cut, ConnectionError):
        pass
    finally:
        client.close()


def test_a_file_written_anew_while_it_is_sent_never_ends_well_as_a_mixture(mount, web):
    """Followers come all the time; each ends with one whole content, or is cut."""
    count, results, stop, old = 30, [], threading.Event(), None
    mount.write_file("f.txt", generation(0))

    def come():
        while not stop.is_set():
            body_of(web, results)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for k in range(1, count):
            before = len(results)
            writer = mount.writer("f.txt", os.O_WRONLY | os.O_TRUNC)
            for at in range(0, len(generation(k)), 400):
                writer.write(generation(k)[at:at + 400])
            if old:
                old.close()
            old = writer if k % 3 == 0 else None
            if not old:
                writer.close()
                procs.wait_until(lambda: len(results) > before, "another answer")
    finally:
        stop.set()
        mount.write_file("f.txt", generation(count))
        for thread in threads:
            thread.join()
    whole = {generation(k) for k in range(count + 1)}
    assert sum(ended for _, ended in results) > 5
    for body, ended in results:
        assert not ended or body in whole, f"{len(body)} bytes {set(body)}"
        for k in set(body):  # nothing but what was once there at that place
            assert body.rindex(bytes([k])) < len(generation(k - 1))
