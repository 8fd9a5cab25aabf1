# SPDX-License-Identifier: MIT
"""ffmpeg pushes streams into rww-httpd by PUT; curl and a second ffmpeg follow them meanwhile."""
import os
import re
import subprocess
import xml.etree.ElementTree as xml

import pytest

from harness import procs
from harness.tools import need, run
from harness.webservers import CUT, Fetch

pytestmark = [pytest.mark.modes("on", "off")]

FFMPEG = ["ffmpeg", "-v", "error", "-nostdin"]
SECONDS = 3
FRAMES = SECONDS * 25
EXACT = ["-fflags", "+bitexact", "-flags", "bitexact", "-threads", "1"]
VIDEO = ["-f", "lavfi", "-i", f"testsrc=size=160x120:rate=25:duration={SECONDS}"]
SOUND = ["-f", "lavfi", "-i", f"sine=duration={SECONDS}"]
MPEG2 = [*VIDEO, *SOUND, *EXACT, "-c:v", "mpeg2video", "-g", "25", "-c:a", "mp2"]

# Otherwise it asks for bytes=0-, and of a growing file gets what is there (RFC 8673).
WHOLE = ["-seekable", "0"]

STREAM = [*MPEG2, "-flush_packets", "1", "-f", "mpegts"]
HLS = [*MPEG2, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]
DASH = [*VIDEO, *EXACT, "-c:v", "mpeg4", "-g", "25", "-f", "dash", "-seg_duration", "1",
        "-streaming", "1", "-frag_type", "every_frame"]


@pytest.fixture
def web(serve, mount):
    need("ffmpeg", "curl")
    # ffmpeg does not wait for answers: one thread begins its uploads in their order.
    web = serve(mount.mnt, "--upload", "--threads=1")
    assert web.request("/live", "MKCOL").status == 201
    return web


@pytest.fixture
def start(mount):
    """Starts ffmpeg; the mount ends it if the test does not."""
    def begin(*argv):
        return mount.popen([*FFMPEG, *argv], stderr=subprocess.PIPE)
    return begin


def push(start, web, what, target):
    """Twice as fast as it plays."""
    return start("-readrate", "2", *what, "-method", "PUT", web.url(target))


def end(program):
    _, err = program.communicate(timeout=procs.seconds(20))
    assert program.returncode == 0, err.decode()


@pytest.fixture
def follow(web, tmp_path):
    """Starts curl, whether the file exists by now or not."""
    made = []

    def begin(name):
        made.append(Fetch(web.url(f"/live/{name}"), tmp_path, "-H", "Prefer: wait=10"))
        return made[-1]

    yield begin
    for fetch in made:
        fetch.destroy()


def frames(*argv):
    """A digest of each picture that a stream decodes to."""
    out = run([*FFMPEG, *argv, "-map", "0:v", "-f", "framemd5", "-"]).decode()
    return [line.split(",")[-1].strip() for line in out.splitlines() if not line.startswith("#")]


def made_locally(what, name, folder):
    """What ffmpeg makes of the same source in a directory: {name: bytes}."""
    os.mkdir(folder)
    run([*FFMPEG, *what, str(folder / name)])
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def test_a_stream_is_followed_while_it_is_pushed(mount, web, start, follow, tmp_path):
    expected = made_locally(STREAM, "s.ts", tmp_path / "local")["s.ts"]
    producer = push(start, web, STREAM, "/live/s.ts")
    curl = follow("s.ts")
    first = procs.wait_until(curl.received, "the first bytes")
    remuxed = tmp_path / "remuxed.ts"
    remuxer = start(*WHOLE, "-i", web.url("/live/s.ts"), "-map", "0", "-c", "copy",
                    str(remuxed))
    web.wait_held(2)
    assert mount.xattr("live/s.ts", "state") == "growing"
    end(producer)
    assert curl.end() == (0, 200, expected) and first < len(expected)
    end(remuxer)
    assert mount.stored_bytes("live/s.ts") == expected
    assert frames("-i", str(remuxed)) == frames("-i", mount.stored("live/s.ts"))
    assert len(frames("-i", str(remuxed))) == FRAMES


def test_a_killed_producer_is_no_end(mount, web, start, follow):
    producer = push(start, web, STREAM, "/live/s.ts")
    curl = follow("s.ts")
    procs.wait_until(lambda: curl.received() > 10_000, "some bytes")
    producer.kill()
    status, _, got = curl.end()
    assert status in CUT
    mount.wait_state("live/s.ts", "aborted")
    assert got == mount.stored_bytes("live/s.ts")


def watch_playlist(web, target, last):
    """Every version from the first to one with the text last: ffmpeg ends before it is there."""
    seen = [web.get(target, Prefer="wait=10")]

    def look():
        seen.append(web.get(target))
        return last in seen[-1]

    procs.wait_until(look, f"the playlist to say {last}", 20)
    return seen


def test_hls(mount, web, start, follow, tmp_path):
    expected = made_locally(HLS, "s.m3u8", tmp_path / "local")
    segments = sorted(name for name in expected if name.endswith(".ts"))
    assert len(segments) == SECONDS
    producer = push(start, web, HLS, "/live/s.m3u8")
    curls = {name: follow(name) for name in segments}
    player = start("-headers", "Prefer: wait=10\r\n", *WHOLE, "-http_seekable", "0",
                   "-live_start_index", "0", "-i", web.url("/live/s.m3u8"),
                   "-map", "0", "-c", "copy", str(tmp_path / "played.ts"))
    seen = watch_playlist(web, "/live/s.m3u8", b"#EXT-X-ENDLIST")
    end(producer)
    for name, curl in curls.items():
        assert curl.end() == (0, 200, expected[name]), name
        assert mount.stored_bytes(f"live/{name}") == expected[name]
    end(player)

    for text in seen:
        assert text.startswith(b"#EXTM3U\n"), text
        assert text.endswith((b".ts\n", b"#EXT-X-ENDLIST\n")), text
        assert re.findall(rb"^\w+\.ts$", text, re.M) == \
            [name.encode() for name in segments[:text.count(b".ts")]]
    assert [text.count(b".ts") for text in seen] == sorted(text.count(b".ts") for text in seen)
    assert seen[0].count(b".ts") < SECONDS and seen[-1] == expected["s.m3u8"]
    played = frames("-i", str(tmp_path / "played.ts"))
    assert played == frames("-i", str(tmp_path / "local" / "s.m3u8")) and len(played) == FRAMES


def test_dash(mount, web, start, follow, tmp_path):
    expected = made_locally(DASH, "s.mpd", tmp_path / "local")
    segments = ["init-stream0.m4s", *(f"chunk-stream0-{i + 1:05}.m4s" for i in range(SECONDS))]
    assert sorted([*segments, "s.mpd"]) == sorted(expected)
    producer = push(start, web, DASH, "/live/s.mpd")
    # The demuxer of DASH runs ahead of what there is, so curl fetches the segments for the player.
    fetch = ["curl", "-sfN", "-H", "Prefer: wait=10", *(web.url(f"/live/{n}") for n in segments)]
    curl = mount.popen(fetch, stdout=subprocess.PIPE)
    player = mount.popen([*FFMPEG, "-i", "pipe:", "-c", "copy", str(tmp_path / "played.mp4")],
                         stdin=curl.stdout, stderr=subprocess.PIPE)
    second = follow(segments[2])
    first = procs.wait_until(second.received, "the second segment to begin")
    seen = watch_playlist(web, "/live/s.mpd", b'type="static"')
    end(producer)
    assert second.end() == (0, 200, expected[segments[2]]) and first < len(expected[segments[2]])
    for name in segments:
        assert mount.stored_bytes(f"live/{name}") == expected[name], name
    assert curl.wait(procs.seconds(10)) == 0
    end(player)

    kinds = [xml.fromstring(text).get("type") for text in seen]
    assert kinds == sorted(kinds) and {kinds[0], kinds[-1]} == {"dynamic", "static"}
    played = frames("-i", str(tmp_path / "played.mp4"))
    assert played == frames("-i", web.url("/live/s.mpd")) and len(played) == FRAMES
