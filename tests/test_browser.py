# SPDX-License-Identifier: MIT
"""The directory page and what it leads to, in a real browser."""
import os
import socket
import subprocess

import pytest

from harness import browser, procs
from harness.tools import need, run


@pytest.fixture(scope="module")
def chromium(base):
    driver = browser.start(base)
    yield driver
    driver.quit()


@pytest.fixture
def tab(request, serve, chromium):
    """Closed before the server stops."""
    tab = browser.Tab(chromium)
    tab.origins = set()
    yield tab
    try:
        if not getattr(request.node, "call_failed", False):
            tab.judge(tab.origins)
    finally:
        tab.close()


@pytest.fixture
def show(tab, web):
    """show("/path") opens a page of the server."""
    tab.origins.add(web.url("").rstrip("/"))

    def show(path="/"):
        tab.open(web.url(path))
        return tab

    return show


one_mode = pytest.mark.modes("user")  # where the mode makes no difference to the page


def rows(tab):
    """{name: (state, size)} as shown."""
    return {r[0]: tuple(r[1:]) for r in tab.js(
        "[...document.querySelectorAll('tbody tr')].map(r => [r.querySelector('a').innerText,"
        " r.cells[1].innerText, r.cells[2].innerText.trim().replaceAll('\\xa0', ' ')])")}


def wait_rows(tab, **expected):
    expected = {name.replace("_", "."): row for name, row in expected.items()}
    procs.wait_until(lambda: rows(tab) == expected, f"{expected}, not {rows(tab)}")


# --- the directory page -------------------------------------------------------------------------

@pytest.mark.modes("on", "user")
def test_sizes_states_and_names_are_live(mount, show):
    log, film, known = (mount.writer(name) for name in ("log.txt", "film.webm", "known.bin"))
    mount.declare("known.bin", 4096)
    log.write(b"x" * 100)
    tab = show()
    tab.js("window.sameDocument = true")
    wait_rows(tab, log_txt=("growing", "100 B"), film_webm=("growing", "0 B"),
              known_bin=("growing", "0 B of 4.0 KiB"))
    assert tab.text("[role=status]") == "3 files, 3 growing"
    tab.js("document.querySelector('a[href=\"./log.txt\"]').focus()")

    log.write(b"x" * 1400)
    film.write(b"y")
    known.write(b"z" * 1024)
    wait_rows(tab, log_txt=("growing", "1.5 KiB"), film_webm=("growing", "1 B"),
              known_bin=("growing", "1.0 KiB of 4.0 KiB"))
    assert tab.js("document.querySelector('progress').position") == 0.25

    log.close()
    mount.abort("film.webm")
    film.close()
    known.write(b"z" * 3072)
    known.close()
    mount.write_file("another.txt", b"new")
    wait_rows(tab, another_txt=("complete", "3 B"), log_txt=("complete", "1.5 KiB"),
              film_webm=("aborted", "1 B"), known_bin=("complete", "4.0 KiB"))
    assert tab.text("[role=status]") == "4 files"

    mount.probe.call(os.unlink, mount.path("film.webm"))
    mount.probe.call(os.rename, mount.path("known.bin"), mount.path("a.bin"))
    wait_rows(tab, a_bin=("complete", "4.0 KiB"), another_txt=("complete", "3 B"),
              log_txt=("complete", "1.5 KiB"))
    assert list(rows(tab)) == ["a.bin", "another.txt", "log.txt"]
    assert tab.js("window.sameDocument")
    assert tab.js("document.activeElement.innerText") == "log.txt"


@one_mode
def test_folders(mount, show):
    mount.probe.call(os.mkdir, mount.path("films"))
    tab = show()
    wait_rows(tab, **{"films/": ("", "")})
    tab.driver.find_element("link text", "films/").click()
    wait_rows(tab, **{"../": ("", "")})
    assert tab.text("h1") == "files/films" and tab.text("[role=status]") == "Nothing here yet"
    mount.write_file("films/a", b"")
    wait_rows(tab, **{"../": ("", ""), "a": ("complete", "0 B")})
    tab.driver.find_element("link text", "files").click()
    wait_rows(tab, **{"films/": ("", "")})


@one_mode
def test_an_index_that_appears_is_shown(mount, show):
    tab = show()
    wait_rows(tab)
    mount.write_file("index.html", b'<link rel="icon" href="data:,"><p id="files">mine')
    tab.wait_text("p", "mine")


@one_mode
def test_a_server_that_went_away_is_told(mount, web, show):
    mount.write_file("a", b"a")
    tab = show()
    tab.allow("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE")
    web.process.terminate()
    assert web.wait() == 0
    tab.wait_text("[role=status]", "Not up to date: the server does not answer")
    wait_rows(tab, a=("complete", "1 B"))


# --- text ---------------------------------------------------------------------------------------

@pytest.mark.modes("on", "user")
def test_text_is_shown_as_it_is_written(mount, show):
    writer = mount.writer("log.txt")
    tab = show()
    wait_rows(tab, log_txt=("growing", "0 B"))
    tab.driver.find_element("css selector", "[aria-label='view log.txt']").click()
    tab.wait_text(".state", "growing")
    seen = ""
    for line in ("first\n", "<b>second</b>\n", "drītt\n"):
        writer.write(line.encode())
        seen += line
        tab.wait_text("pre", seen)
    writer.write("half of ī: ī".encode()[:-1])
    tab.wait_text("pre", seen + "half of ī: ")
    writer.write("ī".encode()[-1:])
    tab.wait_text("pre", seen + "half of ī: ī")
    assert tab.text(".state") == "growing"
    writer.close()
    tab.wait_text(".state", "complete")
    tab.wait_text(".size", "41\xa0B")
    assert tab.text("pre") == seen + "half of ī: ī"


@one_mode
def test_a_text_that_ends_while_the_page_looks(mount, show):
    """What the page then learns of a growing file is old, and is not acted upon."""
    writer = mount.writer("log.txt")
    writer.write(b"one\n")
    tab = show("/log.txt?view")
    tab.wait_text("pre", "one\n")
    tab.driver.execute_script("""
        window.ask = window.fetch;
        window.fetch = async (...what) => {
          const answer = await ask(...what);
          await new Promise(resolve => { window.goOn = resolve; });
          return answer;
        };""")
    tab.wait("!!window.goOn")
    writer.close()
    tab.wait("performance.getEntriesByType('resource').some(e => e.name.endsWith('/log.txt'))")
    assert tab.text(".state") == "growing"
    tab.driver.execute_script("window.fetch = ask; goOn()")
    tab.wait_text(".state", "complete")
    assert tab.text("pre") == "one\n"


@one_mode
def test_an_aborted_text_is_told_and_whole(mount, show):
    writer = mount.writer("log.txt")
    writer.write(b"one\n")
    tab = show("/log.txt?view")
    tab.allow("ERR_INCOMPLETE_CHUNKED_ENCODING")
    tab.wait_text("pre", "one\n")
    writer.write(b"two\n")
    mount.abort("log.txt")
    tab.wait_text(".state", "aborted")
    tab.wait_text("pre", "one\ntwo\n")
    tab.open(tab.driver.current_url)
    tab.wait_text("pre", "one\ntwo\n")
    assert tab.text(".state") == "aborted"


@one_mode
def test_what_is_shown_is_one_file(mount, show):
    """Written anew, replaced, appended to: never a mixture."""
    mount.write_file("log.txt", b"old, and longer\n")
    tab = show("/log.txt?view")
    tab.allow("ERR_INCOMPLETE_CHUNKED_ENCODING")  # the file that was cut
    tab.wait_text("pre", "old, and longer\n")
    mount.write_file("log.txt", b"new\n")
    tab.wait_text("pre", "new\n")
    mount.write_file("other", b"another, of more bytes\n")
    mount.probe.call(os.rename, mount.path("other"), mount.path("log.txt"))
    tab.wait_text("pre", "another, of more bytes\n")
    writer = mount.writer("log.txt", os.O_WRONLY | os.O_APPEND)
    writer.write(b"and more\n")
    tab.wait_text("pre", "another, of more bytes\nand more\n")
    writer.truncate(0)
    writer.pwrite(b"written anew, and longer than all of that before\n", 0)
    tab.wait_text("pre", "written anew, and longer than all of that before\n")
    other = mount.writer("other")  # both of them grow
    other.write(b"another one, and longer than what was written anew before it\n")
    mount.probe.call(os.rename, mount.path("other"), mount.path("log.txt"))
    tab.wait_text("pre", "another one, and longer than what was written anew before it\n")
    writer.write(b"nobody sees that\n")
    other.write(b"more\n")
    tab.wait_text("pre", "another one, and longer than what was written anew before it\nmore\n")
    other.close()
    tab.wait_text(".state", "complete")


@one_mode
def test_of_a_long_text_the_end_is_shown_and_kept_in_sight(mount, show):
    writer = mount.writer("log.txt")
    lines = [f"line {i:06}\n" for i in range(40000)]
    writer.write("".join(lines).encode())
    tab = show("/log.txt?view")
    tab.wait("document.querySelector('pre').textContent.endsWith('line 039999\\n')")
    shown = tab.js("document.querySelector('pre').textContent")
    assert len(shown) == 1 << 18 and "".join(lines).endswith(shown)
    assert "begins earlier" in tab.text("#early")
    at_end = "innerHeight + scrollY >= document.documentElement.scrollHeight - 2"
    tab.driver.find_element("link text", "To the end").click()
    tab.wait(at_end)
    for i in range(100):
        writer.write(b"more\n")
    tab.wait("document.querySelector('pre').textContent"
             ".endsWith('line 039999\\n' + 'more\\n'.repeat(100))")
    tab.wait(at_end)
    assert tab.js("document.querySelector('.bar').getBoundingClientRect().top") == 0
    tab.js("scrollTo(0, 100)")
    writer.write(b"last\n")
    tab.wait("document.querySelector('pre').textContent.endsWith('last\\n')")
    assert tab.js("scrollY") == 100
    writer.write(b"x" * (2 << 20))
    tab.wait("document.querySelector('pre').textContent.endsWith('x') && "
             "!document.querySelector('pre').textContent.includes('l')")
    writer.close()
    tab.wait_text(".state", "complete")


@one_mode
def test_a_server_that_comes_back_is_followed_on(mount, serve, tab):
    with socket.create_server(("127.0.0.1", 0)) as s:
        listen = f"--listen=127.0.0.1:{s.getsockname()[1]}"
    tab.allow("ERR_")
    tab.origins.add("http://" + listen.split("=")[1])
    first = serve(mount.mnt, listen, "--drain-timeout=0", listen=False, identity=mount.identity())
    first.allow_log(r"cutting \d connections")
    writer = mount.writer("log.txt")
    writer.write(b"one\n")
    tab.open(first.url("/log.txt?view"))
    tab.wait_text("pre", "one\n")
    first.process.terminate()
    assert first.wait() == 0
    tab.wait_text(".state", "the server does not answer")
    writer.write(b"two\n")
    serve(mount.mnt, listen, listen=False, identity=mount.identity())
    tab.wait_text("pre", "one\ntwo\n")
    assert tab.text(".state") == "growing"


# --- media --------------------------------------------------------------------------------------

def ffmpeg(*options, speed=()):
    return ["ffmpeg", "-v", "error", *speed, "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25",
            "-f", "lavfi", "-i", "sine=frequency=440", "-g", "10", "-pix_fmt", "yuv420p", *options]


def play(tab, name):
    tab.driver.find_element("css selector", f"[aria-label='play {name}']").click()
    tab.wait("document.querySelector('video').currentTime > 0.5", "the film to play")
    assert tab.text(".state") == "growing"


def play_to_the_end(tab, path):
    """As far as the file that was recorded goes."""
    length = float(run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of",
                        "csv=p=0", path]))
    tab.js("document.querySelector('video').playbackRate = 4")
    tab.wait("document.querySelector('video').ended", "the end of the film", 20)
    assert abs(tab.js("document.querySelector('video').currentTime") - length) < 0.1
    assert tab.js("document.querySelector('video').error") is None
    tab.wait_text(".state", "complete")


@pytest.mark.modes("on")
def test_a_film_plays_while_it_is_recorded(mount, show):
    need("ffmpeg")
    recorder = mount.popen(ffmpeg(
        "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-cluster_time_limit", "400",
        "-flush_packets", "1", mount.path("film.webm"), speed=["-re"]), stdin=subprocess.PIPE)
    procs.wait_until(lambda: os.path.exists(mount.path("film.webm"))
                     and mount.xattr("film.webm", "edge") != "0", "the first bytes")
    tab = show()
    play(tab, "film.webm")
    assert recorder.poll() is None
    recorder.communicate(b"q")  # stop recording
    assert recorder.returncode == 0
    play_to_the_end(tab, mount.stored("film.webm"))


@one_mode
def test_a_film_waits_for_what_is_not_there_yet(mount, show):
    need("ffmpeg")
    film = run(ffmpeg("-c:v", "libx264", "-preset", "ultrafast", "-movflags",
                      "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", "-t", "3", "-"))
    writer = mount.writer("film.mp4")
    writer.write(film[:len(film) // 2])
    tab = show()
    play(tab, "film.mp4")
    tab.wait("document.querySelector('video').readyState < 3", "the player to wait")
    assert not tab.js("document.querySelector('video').ended")
    writer.write(film[len(film) // 2:])
    writer.close()
    play_to_the_end(tab, mount.stored("film.mp4"))


# --- for everybody ------------------------------------------------------------------------------

@pytest.fixture
def variety(mount):
    """A mount with a file in each state: its writers, which stay open."""
    mount.write_file("done.txt", b"done\n")
    mount.write_file("broken.txt", b"half")
    mount.probe.call(os.mkdir, mount.path("folder"))
    writers = [mount.writer("broken.txt", os.O_WRONLY | os.O_APPEND), mount.writer("known.bin"),
               mount.writer("log.txt")]
    mount.abort("broken.txt")
    mount.declare("known.bin", 1000)
    writers[1].write(b"x" * 500)
    writers[2].write(b"line\n")
    return writers


@one_mode
def test_without_scripts(mount, variety, show, tab):
    tab.no_scripts()
    show()
    assert rows(tab) == {"folder/": ("", ""), "broken.txt": ("aborted", "4 B"),
                         "done.txt": ("complete", "5 B"), "log.txt": ("growing", "5 B"),
                         "known.bin": ("growing", "500 B of 1000 B")}
    assert "Reload this page" in tab.text()
    variety[2].write(b"more\n")
    show()
    assert rows(tab)["log.txt"] == ("growing", "10 B")
    tab.driver.find_element("css selector", "[aria-label='view done.txt']").click()
    assert tab.text(".state") == "complete" and "Without JavaScript" in tab.text()
    tab.allow("favicon.ico")  # a page of the browser's own
    tab.driver.find_element("link text", "The file itself").click()
    assert tab.text() == "done\n"


@one_mode
def test_what_assistive_technology_is_told(variety, show):
    tab = show()
    tree = tab.tree()
    assert tab.js("document.documentElement.lang") == "en"
    assert tab.js("document.title") == "files"
    for role, name in [("main", ""), ("heading", "files"), ("table", "files"), ("status", ""),
                       ("columnheader", "Name"), ("columnheader", "State"),
                       ("columnheader", "Size"), ("columnheader", "Changed (UTC)"),
                       ("rowheader", "done.txt view done.txt"), ("link", "done.txt"),
                       ("link", "view log.txt"), ("progressbar", "how much is there")]:
        assert (role, name) in tree, (role, name, tree)
    names = [name for role, name in tree if role == "link"]
    assert all(names) and len(set(names)) == len(names)

    tab = show("/log.txt?view")
    tab.wait_text("pre", "line\n")
    tree = tab.tree()
    assert tab.js("document.title") == "log.txt"
    for role, name in [("heading", "files/log.txt"), ("status", ""), ("log", "text of the file"),
                       ("link", "The file itself"), ("link", "To the end")]:
        assert (role, name) in tree, (role, name, tree)


# The contrast of each piece of text with what lies behind it (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const part = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color[3] !== 0) return color;
    }
    return null;
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility()) continue;
    const colors = [parse(getComputedStyle(element).color), behind(element)];
    const [a, b] = colors.map(light).sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), text]);
  }
  return [found, behind(document.body)];
})()"""


@one_mode
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(variety, show, tab, scheme):
    tab.scheme(scheme)
    for path in ("/", "/log.txt?view", "/broken.txt?view"):
        show(path)
        if path != "/":
            tab.allow("ERR_INCOMPLETE_CHUNKED_ENCODING")
            tab.wait("document.querySelector('pre').textContent")
        found, paper = tab.js(CONTRAST)
        assert (sum(paper[:3]) > 3 * 200) == (scheme == "light"), paper
        assert len(found) >= 6 and [x for x in found if x[0] < 4.5] == []


@one_mode
def test_keyboard(variety, show):
    from selenium.webdriver.common.keys import Keys
    tab = show()
    reached = []
    for _ in range(tab.js("document.links.length")):
        tab.key(Keys.TAB)
        reached.append(tab.js(
            "document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        assert tab.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["folder/", "broken.txt", "view broken.txt", "done.txt", "view done.txt",
                       "known.bin", "log.txt", "view log.txt"]
    tab.key(Keys.ENTER)
    tab.wait_text("pre", "line\n")


@one_mode
def test_narrow_and_wide(mount, variety, show, tab):
    mount.write_file("a-very-long-name-" + "x" * 200 + ".txt", b"")
    for width in (320, 390, 768, 2560):
        tab.size(width, 800, phone=width < 768)
        for path in ("/", "/log.txt?view"):
            show(path)
            assert tab.js("document.documentElement.scrollWidth") <= width, (width, path)


# --- odd names ----------------------------------------------------------------------------------

ATTACK = "<img src=x onerror=\"window.hacked='%s'\">"
NAMES = [  # as it is, as it is shown
    ("a 'quote' \"double\".txt", None), ("a&amp;b<i>c.txt", None), ("100%25 % sure.txt", None),
    ("<script>window.hacked=1;.txt", None), (ATTACK % "name", None),
    ("javascript:alert(1)", None), ("a?view", None), ("a#b.txt", None), ("%2e%2e", None),
    ("  two  spaces  .txt", None), ("back\\slash.txt", None), ("{{x}}${y}`.txt", None),
    ("😀 ū.txt", None), ("ملف.txt", None), ("txt.\u202egnp.exe", None),
    ("new\nline\ttab\x7f.txt", "new␊line␉tab␡.txt"),
    (b"latin-\xe9.txt", "latin-\ufffd.txt"), (b"\xff\xfe", "\ufffd\ufffd"),
    (b"cut-\xe2\x82", "cut-\ufffd"),
]
VIEWED = ("a 'quote' \"double\".txt", "100%25 % sure.txt", "<script>window.hacked=1;.txt",
          "  two  spaces  .txt", "new\nline\ttab\x7f.txt")


@one_mode
def test_odd_names(mount, web, show):
    expected = {}
    for i, (name, shown) in enumerate(NAMES):
        mount.write_file(os.fsdecode(name), b"content %d" % i)
        expected[shown or name] = f"content {i}"
    tab = show()
    assert rows(tab).keys() == expected.keys()
    fetched = tab.driver.execute_async_script("""
        const links = [...document.querySelectorAll('tbody a:first-child')];
        Promise.all(links.map(async a => [a.innerText, await (await fetch(a.href)).text()]))
            .then(all => arguments[0](Object.fromEntries(all)))""")
    assert fetched == expected

    mount.write_file("last", b"")  # through the script, too
    procs.wait_until(lambda: "last" in rows(tab), "the new file")
    assert rows(tab).keys() == {*expected, "last"}
    tab.wait("document.querySelectorAll('tbody tr').length === %d" % (len(NAMES) + 1))

    for i, (name, shown) in enumerate(NAMES):
        if name in VIEWED:
            tab.open(tab.js("[...document.querySelectorAll('.view')]"
                            ".find(a => a.ariaLabel === 'view ' + arguments[0]).href", name))
            tab.wait_text("pre", f"content {i}")
            assert tab.js("document.title") == " ".join((shown or name).split())
            assert tab.text("h1 bdi") == (shown or name)
            show()
    assert tab.js("window.hacked") is None


@one_mode
def test_odd_folders_and_contents(mount, show):
    folder = "<b>&'\"%25\n"
    mount.probe.call(os.mkdir, mount.path(folder))
    mount.write_file(f"{folder}/evil.html", (ATTACK % "content").encode())
    tab = show()
    tab.driver.find_element("css selector", "tbody a").click()
    tab.wait("document.querySelector('h1').innerText === \"files/<b>&'\\\"%25␊\"")
    tab.driver.find_element("css selector", "[aria-label='view evil.html']").click()
    tab.wait_text("pre", ATTACK % "content")
    tab.driver.find_element("css selector", "h1 a:nth-of-type(2)").click()
    tab.wait("document.querySelector('tbody a').innerText === '../'")
    assert tab.js("window.hacked") is None


@one_mode
def test_addresses_with_two_slashes(mount, show):
    """As they come of putting a path behind an address that ends with one."""
    mount.write_file("a.txt", b"content")
    show("//a.txt?view").wait_text("pre", "content")
    tab = show("//")
    mount.write_file("b.txt", b"")
    procs.wait_until(lambda: "b.txt" in rows(tab), "the new file")


@one_mode
def test_only_our_scripts_run(mount, web, show):
    """Should a name ever slip through, the policy holds."""
    assert "default-src 'none'" in web.request("/").headers["content-security-policy"]
    tab = show()
    tab.allow("Content Security Policy")
    tab.js("document.body.insertAdjacentHTML('beforeend', arguments[0])", ATTACK % "image")
    tab.js("(() => { const s = document.createElement('script');"
           " s.textContent = 'window.hacked = 2'; document.body.append(s); })()")
    tab.wait("document.images.length === 1")
    procs.wait_until(lambda: (tab.observe(), len(tab.console) >= 2)[1], "the refusals")
    assert tab.js("window.hacked") is None
    assert "content-security-policy" not in web.request("/x").headers
