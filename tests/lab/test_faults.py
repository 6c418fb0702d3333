"""Deploys that go wrong half-way, on real hosts: what is told, what is left, and the next one."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from provision.commands import status
from provision.fleet import deploy
from provision.options import Options
from provision.remote import session
from provision.remote.handshake import START_TIMEOUT
from provision.ssh import stream as line
from roles import ROLES
from tests.lab.hosts import CLIENT, INVENTORY, manifest, root, times
from tests.lab.operator_commands import start_command

ROUNDS = int(os.environ.get("FAULTS", "1"))  # of each kind of interruption; ten take minutes
# The same in each process of a run: pytest-xdist compares what they collect.
_RUN = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID"))  # noqa: S311  # to be repeatable
SEEDS = [_RUN.randrange(2**32) for _ in range(ROUNDS)]
TOLD = 20.0  # seconds until a dead link is noticed
FREE = 25.0  # seconds until a lock is free whose holder was killed
HOST_FAILED, UNREACHABLE, LOCKED = 3, 4, 6
PROFILE = "/etc/profile.d/gearman.sh"
BARE = """
systemctl stop 'gearman*'
rm -rf /etc/systemd/system/gearman* /etc/systemd/system/*.wants/gearman*
rm -rf /usr/local/bin/gear* /etc/profile.d/gearman.sh /opt/gearman
userdel gearmand 2>/dev/null || true
userdel gearman-worker 2>/dev/null || true
systemctl daemon-reload; systemctl reset-failed
"""
CHANGES = 12  # that a bare worker needs, or a few less
KILL_AGENT = """
for each in /proc/[0-9]*; do
    case $(readlink $each/exe) in
        */python3*) if grep -qzx -e -S $each/cmdline; then kill -KILL ${each#/proc/}; fi;;
    esac
done
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    """A deploy as it is typed, that tells each change when it is made."""
    return start_command("deploy", "--hosts", str(INVENTORY), "--yes", "--verbose", *arguments)


def run(*arguments: str) -> tuple[int, str]:
    process = start(*arguments)
    out = process.communicate()[0]
    return process.wait(), out


def run_until_free(*arguments: str) -> tuple[int, str]:
    """Deploy as soon as nobody has the host locked any more."""
    deadline = time.monotonic() + FREE
    while True:
        code, out = run(*arguments)
        if code != LOCKED:
            return code, out
        assert time.monotonic() < deadline, out


@pytest.fixture(scope="module", autouse=True)
def whole(lab: ModuleType) -> dict[str, Any]:
    """The worker's disk after a deploy, of all hosts, that nothing interrupted."""
    root(lab, "worker1", BARE)
    assert deploy.deploy(INVENTORY, ROLES, Options(yes=True)) == 0
    return manifest(lab, "worker1")


# -- interrupted ------------------------------------------------------------------------


def kill_controller(lab: ModuleType, controller: subprocess.Popen[str]) -> None:
    controller.kill()


def kill_agent(lab: ModuleType, controller: subprocess.Popen[str]) -> None:
    root(lab, "worker1", KILL_AGENT)


def cut_power(lab: ModuleType, controller: subprocess.Popen[str]) -> None:
    lab.power_off("worker1")
    lab.boot("worker1")


def until_made(process: subprocess.Popen[str], changes: int) -> Iterator[str]:
    """What a deploy says until so many changes are made, or all."""
    assert process.stdout
    planned = False
    for told in process.stdout:
        yield told
        planned = planned or told.startswith("1 host:")
        changes -= bool(re.match(r"\w+ +\d+\.\d+ s ", told))
        if planned and not changes:
            return


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("interrupt", [kill_controller, kill_agent, cut_power])
def test_what_is_interrupted_anywhere_is_not_half_written_and_the_next_deploy_ends_it(
    lab: ModuleType,
    whole: dict[str, Any],
    interrupt: Callable[[ModuleType, subprocess.Popen[str]], None],
    seed: int,
) -> None:
    chance = random.Random(seed)  # noqa: S311  # the seed is in the test's name
    root(lab, "worker1", BARE)
    bare = manifest(lab, "worker1")
    process = start("--limit", "worker1")
    said = list(until_made(process, chance.randrange(CHANGES)))
    if "gearman/releases" in said[-1]:  # the next one is the release, which takes its time
        time.sleep(chance.uniform(0, 3))
    interrupt(lab, process)
    said.append(process.communicate()[0])
    out = "".join(said)
    # What is seen first, a command that ends or a link, is chance; so is being done in time.
    told = [-signal.SIGKILL] if interrupt is kill_controller else [HOST_FAILED, UNREACHABLE]
    assert process.returncode in [*told, 0], out

    for path, found in manifest(lab, "worker1").items():
        if not path.startswith("/opt/gearman/releases/") and "/.gp-" not in path:
            assert found in (whole.get(path), bare.get(path)), path
    current = "/opt/gearman/current"
    root(lab, "worker1", f"! test -L {current} || test -e {current}/.complete")
    code, out = run_until_free("--limit", "worker1")
    assert code == 0, out
    assert manifest(lab, "worker1") == whole


def test_a_cable_pulled_half_way_is_told_in_time_and_the_next_deploy_ends_it(
    lab: ModuleType, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if ROUNDS == 1:  # what takes 20 s takes a few
        monkeypatch.setattr(session, "PING_INTERVAL", 0.5)
        monkeypatch.setattr(session, "SILENCE_TIMEOUT", 4.0)
        monkeypatch.setattr(line, "KEEPALIVE_INTERVAL", 1)
        monkeypatch.setattr(line, "KEEPALIVE_TIMEOUT", 3.0)
    root(lab, "worker1", BARE)
    options = Options(limit="worker1", yes=True)
    statuses: list[int] = []
    deploying = Thread(
        target=lambda: statuses.append(deploy.deploy(INVENTORY, ROLES, options)), daemon=True
    )
    deploying.start()
    begun = "until test -d /opt/gearman/releases/*/venv; do sleep 0.02; done"
    root(lab, "worker1", f"timeout 60 sh -c '{begun}'")
    lab.unplug("worker1")
    try:
        began = time.monotonic()
        deploying.join(TOLD)
        assert statuses == [UNREACHABLE]
        print(f"told after {time.monotonic() - began:.1f} s")
    finally:
        lab.plug("worker1")
    code, out = run_until_free("--limit", "worker1")
    assert code == 0, out
    assert manifest(lab, "worker1") == whole


# -- two at once ------------------------------------------------------------------------


def test_a_second_deploy_is_refused_with_who_has_the_first_and_a_killed_one_is_soon_free(
    lab: ModuleType,
) -> None:
    root(lab, "client1", "rm -r /opt/gearman/releases")
    first = start("--limit", "client1")
    for _ in until_made(first, 1):
        pass
    first.send_signal(signal.SIGSTOP)  # else it might end before the second begins
    try:
        code, out = run("--limit", "client1")
        assert code == LOCKED, out
        holder = rf"\S+@\S+ since \d\d:\d\d, invoke .*deploy .*, pid {first.pid}"
        assert re.fullmatch(f"invoke: client1 is locked: {holder}", out.splitlines()[-1]), out
    finally:
        first.kill()
        first.communicate()
    began = time.monotonic()
    code, out = run_until_free("--limit", "client1")
    assert code == 0, out
    print(f"free after {time.monotonic() - began:.1f} s")


# -- hosts that are not well ------------------------------------------------------------

# What is due on a worker or client, and is done there though another host is not well.
DUE = f"rm -f {PROFILE}"
SMALL = """
mkdir /run/small; mount -t tmpfs -o {options} small /run/small; mkdir /run/small/releases
mount --bind /run/small /opt/gearman
"""
NOT_SMALL = "umount -l /opt/gearman /run/small; rmdir /run/small"
FILLER = """
systemd-run --quiet --collect --unit=filler sh -c '
    until ls -d /opt/gearman/releases/*.partial; do :; done
    exec dd if=/dev/zero of=/opt/gearman/filler bs=1M'
"""
CLOCK = """
rm /usr/bin/python3; cat > /usr/bin/python3 << 'END'; chmod 755 /usr/bin/python3
#!/bin/sh
exec /usr/bin/python3.11 -I -S -c "import time; now = time.time; time.time = lambda: now() - 7300
$4"
END
"""


@contextmanager
def spoilt(lab: ModuleType, host: str, spoil: str, mend: str) -> Iterator[None]:
    try:
        root(lab, host, spoil)
        yield
    finally:
        lab.run(host, ["sh", "-c", mend])


@pytest.mark.parametrize(
    ("spoil", "mend", "message"),
    [
        pytest.param(
            SMALL.format(options="size=200m") + FILLER,
            f"systemctl stop filler; {NOT_SMALL}",
            r"release \S+: the disk is full|No space left on device",
            id="disk full meanwhile",
        ),
        pytest.param(
            SMALL.format(options="nr_inodes=90"),
            NOT_SMALL,
            r"/opt/gearman has \d\d inodes free, and a release needs 2000: remove small files",
            id="out of inodes",
        ),
        pytest.param(
            SMALL.format(options="size=200m") + "mount -o remount,ro /run/small",
            NOT_SMALL,
            r"/opt/gearman is on a file system that is read-only",
            id="read-only",
        ),
        pytest.param(
            f"{DUE}; mount --bind /etc/profile.d /etc/profile.d;"
            "mount -o remount,bind,ro /etc/profile.d",
            "umount /etc/profile.d",
            rf"file {PROFILE}: Read-only file system: \.gp-",
            id="read-only /etc",
        ),
        pytest.param(
            f"echo >> {PROFILE}; chattr +i {PROFILE}",
            f"chattr -i {PROFILE}",
            rf"file {PROFILE}: Operation not permitted: .*is it immutable",
            id="immutable",
        ),
        pytest.param(
            f"rm {PROFILE}; mkdir {PROFILE}",
            f"rmdir {PROFILE}",
            rf"! {PROFILE} should be a file and is a directory: look at it, and move it away",
            id="a directory in the way",
        ),
        pytest.param(
            CLOCK,
            "ln -sf python3.11 /usr/bin/python3",
            r"its clock is 2:01:[34]\d behind this machine's: set the one that is wrong",
            id="clock wrong",
        ),
    ],
)
def test_a_host_that_is_not_well_fails_alone_and_says_why(
    lab: ModuleType, spoil: str, mend: str, message: str
) -> None:
    before = manifest(lab, "client1")
    root(lab, "worker1", "systemctl stop gearman-worker@wc")
    with spoilt(lab, "client1", spoil, mend):
        code, out = run()
    assert code == HOST_FAILED, out
    assert re.search(message, out), out
    assert "worker1  changed  1 change" in out
    assert "client1: " in out.splitlines()[-3] or "    " in out.splitlines()[-3]
    assert "--limit" not in out
    assert re.match(r"3 hosts: 1 ok, 1 changed, 1 failed ", out.splitlines()[-1])
    code, out = run()
    assert code == 0, out
    assert manifest(lab, "client1") == before


@pytest.mark.parametrize(
    ("spoil", "mend", "message"),
    [
        pytest.param(
            "systemctl stop ssh",
            "systemctl start ssh",
            rf"{CLIENT}:22 refused the connection; is sshd listening there",
            id="still booting",
        ),
        pytest.param(
            "cd /etc/ssh; mv ssh_host_ed25519_key mine; ssh-keygen -qt ed25519 -N '' -f new;"
            "mv new ssh_host_ed25519_key; systemctl restart ssh",
            "cd /etc/ssh; mv mine ssh_host_ed25519_key; rm new.pub; systemctl restart ssh",
            r"its host key has changed: it shows SHA256:\S+",
            id="another host key",
        ),
    ],
)
def test_a_host_that_cannot_be_reached_stops_no_other_and_is_as_wanted_when_it_is_back(
    lab: ModuleType, spoil: str, mend: str, message: str
) -> None:
    root(lab, "worker1", "systemctl stop gearman-worker@wc")
    root(lab, "client1", DUE)
    with spoilt(lab, "client1", spoil, mend):
        code, out = run()
    assert code == UNREACHABLE, out
    assert re.search(f"^client1 +unreachable  {message}", out, re.M), out
    assert "worker1  changed  1 change" in out
    code, out = run()
    assert code == 0, out
    assert f"+ file {PROFILE}" in out


def test_one_failed_host_stops_no_other_of_its_group_and_is_named_at_the_end(
    lab: ModuleType,
) -> None:
    lab.up(print, workers=2)
    try:
        unit = "/etc/systemd/system/gearman-worker@.service"
        root(lab, "worker1", f"rm {unit}; mount --bind /etc/systemd/system /etc/systemd/system")
        root(lab, "worker1", "mount -o remount,bind,ro /etc/systemd/system")
        root(lab, "client1", DUE)
        code, out = run()
        assert code == HOST_FAILED, out
        assert re.search("^worker2 +changed", out, re.M), out
        assert re.search("^client1 +changed", out, re.M), out
        said = f"worker1: file {unit}: Read-only file system: .*; look at its mount"
        assert re.match(said, out.splitlines()[-3]), out
        assert out.splitlines()[-2].startswith("    try: install -o root -g root -m 0644 ")
        root(lab, "worker1", "umount /etc/systemd/system")
        assert run()[0] == 0
    finally:
        root(lab, "worker1", "! mountpoint -q /etc/systemd/system || umount /etc/systemd/system")
        lab.up(print)


# -- who is let in, half-way ------------------------------------------------------------

SUDO = "/etc/sudoers.d/deploy"
EVERYBODY = "deploy ALL=(ALL:ALL) NOPASSWD: ALL"
ASKED = "deploy ALL=(ALL:ALL) ALL"


def test_sudo_revoked_half_way_lets_the_deploy_end_and_no_other_begin(lab: ModuleType) -> None:
    root(lab, "client1", "rm -r /opt/gearman/releases")
    process = start("--limit", "client1")
    said = list(until_made(process, 1))
    with spoilt(lab, "client1", f"mv {SUDO} /root/rule", f"mv /root/rule {SUDO}"):
        said.append(process.communicate()[0])
        assert process.returncode == 0, "".join(said)
        code, out = run("--limit", "client1")
    assert code == UNREACHABLE, out
    assert "client1  unreachable  sudo asks for a password, and there is none: set" in out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(
            f"echo '{ASKED}' > {SUDO}",
            "sudo asks for a password, and there is none: set GEARMAN_SUDO_PASSWORD",
            id="a password is asked for",
        ),
        pytest.param(
            f"printf 'Defaults requiretty\\n{EVERYBODY}\\n' > {SUDO}",
            "sudo wants a terminal: set `Defaults:USER !requiretty` in its rules there",
            id="requiretty",
        ),
        pytest.param(
            "chage -d 0 deploy",
            "the password there has expired: log in and change it",
            id="password expired",
        ),
    ],
)
def test_who_may_not_become_root_changes_nothing_and_is_told_why_at_once(
    lab: ModuleType, spoil: str, message: str
) -> None:
    root(lab, "client1", DUE)
    mend = f"echo '{EVERYBODY}' > {SUDO}; chage -d -1 deploy"
    with spoilt(lab, "client1", spoil, mend):
        code, out = run("--limit", "client1")
    assert code == UNREACHABLE, out
    assert message in out
    took = re.search(r"\((\d+\.\d) s\)$", out.splitlines()[-1])
    assert took
    assert float(took[1]) < START_TIMEOUT
    assert PROFILE not in manifest(lab, "client1")


# -- who only looks ---------------------------------------------------------------------


def test_who_only_looks_writes_nothing_whatever_is_due(lab: ModuleType) -> None:
    root(lab, "client1", DUE)
    root(lab, "server1", "systemctl disable -q gearmand.service")
    root(lab, "worker1", "chmod 700 /opt/gearman")
    hosts = ("client1", "server1", "worker1")
    before = {host: times(lab, host) for host in hosts}
    for look in (deploy.plan, status.status):
        look(INVENTORY, ROLES)
        for host in hosts:
            assert times(lab, host) == before[host]
    assert run()[0] == 0
    assert times(lab, "client1") != before["client1"]
