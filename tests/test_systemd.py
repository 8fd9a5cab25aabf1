# SPDX-License-Identifier: MIT
"""The systemd units, as they are installed, and the protocols that they rely on."""
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile

import pytest

from harness import mount as mounts
from harness import procs, server
from harness.tools import need, run

ROOT = os.geteuid() == 0
HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def installed(base):
    """Where "meson install" put everything: (DESTDIR, folder of the units)."""
    need("meson")
    folder = tempfile.mkdtemp(dir=base, prefix="installed-")
    run(["meson", "install", "-C", mounts.MESON_BUILD, "--no-rebuild", "--quiet", "--destdir", folder],
        timeout=procs.seconds(60))
    units = run(["find", folder, "-name", "rwwfs@.service", "-printf", "%h"]).decode()
    assert units, "no units were installed"
    yield folder, units
    mounts.remove_tree(folder)


@pytest.fixture
def unit(installed):
    """unit(NAME): {directive: value}, the last of each, in the [Service] or [Socket] section."""
    def read(name):
        with open(os.path.join(installed[1], name), encoding="utf-8") as f:
            section = re.split(r"^\[(?:Service|Socket)\]$", f.read(), flags=re.M)[1]
        return dict(re.findall(r"^(\w+)=(.*)$", section.partition("\n[")[0], re.M))

    return read


def command(line, environment):
    """The words of an Exec line, variables filled in as systemd does: $X is split, ${X} is not. Our
    programs are those of the build folder."""
    words = []
    for word in shlex.split(line.lstrip("-")):
        if word[1:] in environment:
            words += environment[word[1:]].split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda m: environment[m[1]], word))
    built = {"rwwfs": mounts.BINARY, "rww-httpd": server.BINARY}
    return [built.get(os.path.basename(words[0]), words[0]), *words[1:]]


@pytest.mark.skipif(not ROOT, reason="root: needed for a mount namespace")
def test_systemd_finds_nothing_wrong(installed):
    """In a namespace where they, and the programs, lie in their places."""
    need("systemd-analyze", "unshare")
    folder, units = installed
    place = units[len(folder):]
    prefix = place.split("/lib/systemd/")[0]
    script = (f'mount --bind "$1" {shlex.quote(prefix)} && systemd-analyze verify --man=no '
              f'{place}/rwwfs@live.service {place}/rww-httpd.service {place}/rww-httpd.socket && '
              f'systemd-analyze security --offline=yes --threshold=18 --no-pager '
              f'{place}/rww-httpd.service')
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", folder + prefix],
                          capture_output=True, text=True, timeout=procs.seconds(30))
    ours = [line for line in done.stderr.splitlines() if "rww" in line]  # others have faults, too
    assert done.returncode == 0 and not ours, done.stderr + done.stdout


def test_commands_are_those_installed(installed, unit):
    for name in ("rwwfs@.service", "rww-httpd.service"):
        program = unit(name)["ExecStart"].split()[0]
        assert os.access(installed[0] + program, os.X_OK), program


CHECK = r"""
mkdir -p /etc/rwwfs /srv/store /srv/live
printf '%s\n' STORE=/srv/store MOUNTPOINT=/srv/live >/etc/rwwfs/live.conf
printf '%s\n' DIRECTORY=/srv/live OPTIONS=--threads=2 >/etc/rww-httpd.conf
url=http://127.0.0.1:8080
get() { curl -sS "$url/$1" 2>&1 | xargs; }
systemd-sysusers
systemctl start rwwfs@live rww-httpd

echo "started: $(systemctl is-active rwwfs@live rww-httpd.socket rww-httpd | xargs)"
echo "user: $(stat -c %U "/proc/$(systemctl show -p MainPID --value rww-httpd)")"
echo hello >/srv/live/a
rwwctl wait /srv/live/a
echo "complete: $(get a)"
exec 3>/srv/live/growing
echo one >&3
coproc CURL { exec 3>&- && curl -sSN "$url/growing"; }
read -r first <&"${CURL[0]}"
echo two >&3
read -r second <&"${CURL[0]}"
exec 3>&-
wait "$CURL_PID" && echo "followed: $first $second"
echo "niceness: $(awk -v ours="$(nice)" '{ print $19 - ours }' /proc/"$(systemctl show -p MainPID --value rww-httpd)"/task/*/stat |
	sort -u | xargs)"
systemctl reload rww-httpd
echo "reloaded: $(get a)"

kill -KILL "$(systemctl show -p MainPID --value rwwfs@live)"
echo "gone: $(get a)"
until [[ $(systemctl show -p NRestarts --value rwwfs@live) == 1 ]] &&
	systemctl -q is-active rwwfs@live && [[ $(get a) == hello ]]; do sleep 0.1; done
echo "back: $(get a)"

systemctl stop rww-httpd.service 2>/dev/null # "can still be activated"
echo "activated: $(get a)"

mkdir /etc/systemd/system/rww-httpd.service.d
printf '%s\n' '[Service]' User=www-data ReadWritePaths=/srv/live \
	>/etc/systemd/system/rww-httpd.service.d/upload.conf
echo OPTIONS=--upload >>/etc/rww-httpd.conf
chown www-data /srv/store
systemctl daemon-reload
systemctl restart rww-httpd
echo "uploaded: $(curl -sS -T /etc/hostname "$url/b" -o /dev/null -w '%{http_code}')"
echo "owner: $(stat -c %U /srv/store/b)"

systemctl stop rww-httpd.socket rww-httpd rwwfs@live
echo "stopped: $(systemctl show -p Result --value rww-httpd.socket rww-httpd rwwfs@live | xargs)"
mountpoint -q /srv/live || echo "mounted: no"
"""


@pytest.mark.skipif(not ROOT, reason="root: needed for a systemd of its own")
def test_units_under_systemd(base):
    """Process 1, sandboxes, users, crashes and sockets as on a machine; see harness/boot."""
    need("curl", "systemd-analyze")
    folder = tempfile.mkdtemp(dir=base)
    check = os.path.join(folder, "check")
    with open(check, "w", encoding="utf-8") as f:
        f.write(CHECK)
    boot = subprocess.Popen(["unshare", "--mount", os.path.join(HERE, "harness", "boot"), folder,
                             mounts.MESON_BUILD, check], start_new_session=True,
                            stderr=subprocess.PIPE, text=True)
    try:
        _, errors = boot.communicate(timeout=procs.seconds(60))
    finally:
        if boot.poll() is None:
            boot.terminate()
            boot.wait()
    with open(os.path.join(folder, "output"), encoding="utf-8") as f:
        output = f.read()
    assert output.splitlines() == [
        "started: active active active", "user: rww-httpd", "complete: hello",
        "followed: one two", "niceness: 0 5", "reloaded: hello", "gone: 503 Service Unavailable", "back: hello",
        "activated: hello", "uploaded: 201", "owner: www-data",
        "stopped: success success success", "mounted: no"], errors


# --- rwwfs@.service

@pytest.mark.skipif(not ROOT, reason="root: the unit is for the system's systemd")
def test_rwwfs_service(unit, make_mount, base):
    """Type=forking: the command ends when the mount answers, its pidfile tells the daemon."""
    service = unit("rwwfs@.service")
    assert service["Type"] == "forking"
    made = make_mount("off", start=False)
    words = {"STORE": made.store, "MOUNTPOINT": made.mnt,
             "OPTIONS": service["Environment"].split("=")[1]}
    line = service["ExecStart"]
    assert f"pidfile={service['PIDFile']}" in line
    start = command(line.replace(service["PIDFile"], made.pidfile), words)  # /run is not ours
    made.argv = lambda: start
    made.background = True
    made.start()
    made.write_file("a", b"a")

    procs.kill(made.pid)  # a crash, and what is done before the next start
    made.process.returncode = procs.wait_exit(made.pid, 5, "rwwfs")
    assert procs.errno_of(os.listdir, made.mnt)
    prepare = command(service["ExecStartPre"], {})
    environment = {**os.environ, **words}
    subprocess.run(prepare, env=environment, stderr=subprocess.DEVNULL, check=True, timeout=5)
    assert mounts.mount_entry(made.mnt) is None
    os.unlink(made.pidfile)
    made.end_users()
    made.start()
    made.write_file("a", b"again")
    subprocess.run(prepare, env=environment, check=True, timeout=5)  # touches no living one
    assert made.stored_bytes("a") == b"again"
    made.kill(signal.SIGTERM)
    assert made.wait() == 0 and mounts.mount_entry(made.mnt) is None
    assert not os.path.exists(made.pidfile)


# --- rww-httpd.service and .socket

class Manager:
    """The side of systemd: the socket where services report."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(procs.seconds(10))

    def told(self):
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture
def manager(base):
    manager = Manager(tempfile.mkdtemp(dir=base))
    yield manager
    manager.socket.close()


def test_rww_httpd_service(unit, manager, base):
    """Socket activation: the server is started by its first client, who waits and is answered."""
    need("systemd-socket-activate")
    service, listen = unit("rww-httpd.service"), unit("rww-httpd.socket")["ListenStream"]
    assert service["Type"] == "notify"
    site = tempfile.mkdtemp(dir=base)
    with open(os.path.join(site, "a"), "wb") as f:
        f.write(b"hello")
    with socket.create_server((listen.split(":")[0], 0)) as s:
        port = s.getsockname()[1]  # the unit's own may be in use
    start = command(service["ExecStart"], {"OPTIONS": "--threads=2 --cors=*", "DIRECTORY": site})
    log = tempfile.TemporaryFile("w+", dir=base)
    daemon = subprocess.Popen(
        ["systemd-socket-activate", "-l", f"{listen.split(':')[0]}:{port}",
         "-E", f"NOTIFY_SOCKET={manager.path}", *start],
        stdout=log, stderr=log, start_new_session=True, preexec_fn=procs.die_with_parent)
    try:
        procs.wait_until(lambda: is_listening(port), "systemd-socket-activate to listen")
        client = server.Client(port).begin("/a")
        assert manager.told() == ["READY=1"]
        response = client.response()
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.rest() == b"hello"
        client.close()

        reload = service["ExecReload"].replace("$MAINPID", str(daemon.pid))
        run(shlex.split(reload))
        assert manager.told() == ["RELOADING=1"]
        assert manager.told() == ["READY=1"]

        daemon.terminate()
        assert manager.told() == ["STOPPING=1"]
        assert procs.wait_exit(daemon.pid, 10, "rww-httpd") == 0
        daemon.returncode = 0
    finally:
        if daemon.returncode is None:
            daemon.kill()
            daemon.wait()
        log.close()


def is_listening(port):
    """Looked up, not tried: a connection would start the service."""
    with open("/proc/net/tcp") as f:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                   for line in list(f)[1:])
