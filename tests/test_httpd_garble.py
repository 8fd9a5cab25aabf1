# SPDX-License-Identifier: MIT
"""Requests with random faults, in random pieces, from clients that end in random ways."""
import contextlib
import pathlib
import random
import re
import socket
import ssl

import pytest

from harness import server

pytestmark = [pytest.mark.sanitize]

STATUS = re.compile(rb"HTTP/1\.[01] (100|2\d\d|30[1478]|4\d\d|50[0135]|507) ")

REQUESTS = [
    b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /big.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=5-90, 100-, -7\r\n\r\n",
    b"GET /big.bin?q=%20 HTTP/1.0\r\nIf-Range: \"x\"\r\nRange: bytes=1-2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json;q=0.5, text/html\r\nConnection: close\r\n\r\n",
    b"GET /grows HTTP/1.1\r\nHost: x\r\nPrefer: wait=0\r\nRange: bytes=100-\r\n\r\n",
    b"GET /a.txt HTTP/1.1\r\nHost: x\r\nCookie: " + b"; ".join([b"a=b"] * 400) + b"\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nIf-None-Match: *\r\n\r\nhello world",
    b"PUT /up HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
    b"GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"DELETE /up HTTP/1.1\r\nHost: x\r\n\r\n", b"MKCOL /d HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
]


def garble(rand, text):
    """text with a few faults."""
    for _ in range(rand.choice([0, 1, 1, 2, 5])):
        at = rand.randrange(len(text))
        to = min(len(text), at + rand.choice([1, 2, 10, 100]))
        piece = rand.choice([
            b"", text[at:to] * 2, bytes([rand.randrange(256)]), rand.choice(b"\0\r\n :/%?;,=\"").to_bytes(1, "big"),
            b"\r\n", b"x" * rand.choice([300, 5000, 20000]), b"a: b\r\n" * rand.choice([2, 300]), b"9" * 30])
        text = text[:at] + piece + text[to:] or b"x"
    return text


def pieces(rand, text):
    while text:
        size = rand.choice([1, 20, 1000, len(text), len(text)])
        yield text[:size]
        text = text[size:]


def converse(rand, client, listens):
    """Says something, and perhaps hears the answers; what comes must be one."""
    text = b"".join(garble(rand, rand.choice(REQUESTS)) for _ in range(rand.choice([1, 1, 1, 3])))
    for piece in pieces(rand, text):
        client.send(piece)
    if listens and rand.randrange(4):
        with contextlib.suppress(OSError):  # it may have been closed
            client.socket.shutdown(socket.SHUT_WR)
        heard = b"".join(iter(client.some, b""))
        assert not heard or STATUS.match(heard)
    elif rand.randrange(2):
        client.reset()


@pytest.mark.modes("on", "off")
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_garbled_requests(serve, mount, pem, tls, seed):
    rand = random.Random(seed)
    web = serve(mount.mnt, "--upload", "--header-timeout=1", "--idle-timeout=1", "--cors=http://y",
                *(pem if tls else ()), identity=mount.identity(),
                environment=server.WIPE)
    pathlib.Path(mount.path("a.txt")).write_bytes(b"hello world\n")
    pathlib.Path(mount.path("big.bin")).write_bytes(bytes(100_000))
    writer = mount.writer("grows")
    writer.write(b"x" * 200)
    for i in range(200):
        if i == 100:
            writer.close()
        client = web.connect()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            converse(rand, client, i >= 100 and not tls)
        client.close()
    web.wait_metric("connections", 0)
    assert b"<html" in web.get("/")
    for line in web.logged(1):
        assert 100 < line["status"] < 600
