# SPDX-License-Identifier: MIT
"""Fixtures of the filesystem's tests.

mount        a daemon in each mode (on, off, user); @pytest.mark.options("…") gives it options,
             @pytest.mark.modes("on", …) restricts the modes
make_mount   a factory for tests that need more than one, or another start
serve        a factory of rww-httpd servers
helper       helper(NAME, FLAGS...) compiles tests/helpers/NAME.c and returns the program

RWW_BUILD    the build folder (default: build)
RWW_MODES    modes to run (default: on,off,user)
RWW_NO_SKIP  1: a skip is a failure
RWW_TEST_DIR where stores and mount points are made (default: the system's temporary folder)
"""
import functools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
pytest.register_assert_rewrite("harness")

from harness import mount as mounts  # noqa: E402
from harness.data import pattern
from harness import procs, sandbox, server  # noqa: E402


M_MMAP_THRESHOLD = -3  # <malloc.h>


def pytest_configure(config):
    # What a large body took goes back to the system: each agent is a fork(2) of all that is left.
    procs.libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
    if os.path.exists(mounts.BINARY) and mounts.is_sanitized():
        procs.TIME_SCALE[0] = 5
    if hasattr(config, "workerinput"):  # of pytest-xdist: has the controller's sandbox
        if os.geteuid() == 0:
            sandbox.unshare_mounts()
        return
    scratch = tempfile.mkdtemp(prefix="rwwfs-dev-")
    sandbox.enter(scratch)
    config.add_cleanup(lambda: _remove_scratch(scratch))


def _remove_scratch(scratch):
    mounts.rescue("/dev/fuse")
    mounts.rescue(scratch)
    os.rmdir(scratch)


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("modes")
        wanted = os.environ.get("RWW_MODES", "on,off,user").split(",")
        modes = [m for m in (marker.args if marker else mounts.MODES) if m in wanted]
        metafunc.parametrize("mode", modes or ["none"], indirect=True)


def pytest_collection_modifyitems(config, items):
    """A test none of whose modes is wanted is not one of this run."""
    out = [i for i in items if hasattr(i, "callspec") and i.callspec.params.get("mode") == "none"]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [i for i in items if i not in out]


@functools.lru_cache(maxsize=None)
def libfuse_version():
    said = subprocess.run([mounts.BINARY, "--version"], check=True, capture_output=True, text=True)
    return tuple(map(int, re.search(r"libfuse (\d+)\.(\d+)", said.stdout).groups()))


def pytest_runtest_setup(item):
    if item.get_closest_marker("tmpfile") and libfuse_version() < (3, 17):
        pytest.skip("O_TMPFILE: needs libfuse 3.17")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("RWW_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although RWW_NO_SKIP=1: {report.longrepr}"
    if report.failed and call.when == "call":
        item.call_failed = True
        report.sections.append(("daemons", procs.testimony()))


@pytest.fixture(scope="session")
def base():
    """A folder for stores and mount points that unprivileged users can reach."""
    path = tempfile.mkdtemp(prefix="rwwfs-test-", dir=os.environ.get("RWW_TEST_DIR"))
    os.chmod(path, 0o755)
    yield path
    mounts.remove_tree(path)


@functools.lru_cache(maxsize=None)
def passthrough_refusal(base):
    """Why this build or machine cannot do passthrough; empty when it can."""
    probe = mounts.Mount(base, "off")
    probe.options = []
    try:
        probe.start()
        return "" if probe.passthrough else probe.ready["rest"].partition("), ")[0].lstrip(" (")
    finally:
        probe.destroy()


@pytest.fixture
def mode(request, base):
    if request.param in ("on", "off") and os.geteuid() != 0:
        pytest.skip("root: not running as root")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse: not accessible")
    if request.param == "on" and passthrough_refusal(base):
        pytest.skip(f"passthrough: {passthrough_refusal(base)}")
    return request.param


@pytest.fixture
def make_mount(request, base):
    made = []

    def make(mode="off", options="", start=True, **kwargs):
        mount = mounts.Mount(base, mode, options, **kwargs)
        made.append(mount)
        return mount.start() if start else mount

    yield make
    problems = []
    for mount in reversed(made):
        if getattr(request.node, "call_failed", False) or mount.failed:
            mount.destroy()
            continue
        try:
            mount.stop()
        except BaseException as e:
            problems.append(e)
    for mount in made:
        if mount.store.startswith(mount.base):
            mounts.remove_tree(mount.base)
    if problems:
        raise problems[0]


@pytest.fixture
def mount(request, mode, make_mount):
    marker = request.node.get_closest_marker("options")
    return make_mount(mode, ",".join(marker.args) if marker else "")


@pytest.fixture
def serve(request, make_mount):
    """serve(folder, options...) starts rww-httpd; it stops before the mounts do."""
    with server.factory(request) as make:
        yield make


@pytest.fixture
def site(base):
    """A plain folder to serve."""
    path = pathlib.Path(tempfile.mkdtemp(dir=base))
    path.chmod(0o755)
    (path / "a.txt").write_bytes(b"hello world\n")
    (path / "big.bin").write_bytes(pattern(8 << 20))
    return path


@pytest.fixture
def folder(base):
    return pathlib.Path(tempfile.mkdtemp(dir=base))


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return server.certificate(tmp_path_factory.mktemp("pem"))


@pytest.fixture
def web(serve, mount):
    return serve(mount.mnt, identity=mount.identity())


@pytest.fixture
def growing(mount, web):
    """For tests of the server: a file of 100 bytes that is still being written: (mount, web, writer)."""
    writer = mount.writer("f.txt")
    writer.write(pattern(100))
    return mount, web, writer


@pytest.fixture(scope="session")
def helper(base):
    """Compile tests/helpers/NAME.c once."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "helpers")

    @functools.lru_cache(maxsize=None)
    def build(name, *flags):
        program = os.path.join(base, name)
        subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-O2", "-g", "-Wall", "-Wextra",
                        "-Werror", "-D_GNU_SOURCE", "-pthread", *flags, "-o", program,
                        os.path.join(folder, name + ".c")], check=True, timeout=60)
        os.chmod(program, 0o755)
        return program

    return build
