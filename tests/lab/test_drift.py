"""What is changed by hand on real hosts: a plan names it and only it, a deploy mends just that."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py.config import format_size
from provision.fleet import begin, deploy
from provision.options import Options
from provision.release.build import ROOT
from roles import ROLES
from tests.lab.hosts import INVENTORY, manifest, root

TARS = ROOT / ".cache" / "releases"
YES = Options(yes=True)
PROFILE = "/etc/profile.d/gearman.sh"
UNITS = "/etc/systemd/system"
SERVER = f"{UNITS}/gearmand.service"
WORKER = f"{UNITS}/gearman-worker@.service"
WORKERS = tuple(f"gearman-worker@{each}.service" for each in ("reverse", "resize", "wc"))
RELOAD = "~ daemon-reload  (unit files changed)"
CHANGES = "what it was started from is replaced"
LATE = "it began before its unit file was written"
DROPPED = "; connections are dropped"

MODULE = "venv/lib/python3.11/site-packages/gearman_py/__init__.py"
# user::rwx user:1000:rwx group::r-x mask::rwx other::r-x, as setfacl(1) would have it
ACCESS_LIST = """
import os, struct
entries = (1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)
value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *each) for each in entries)
os.setxattr("/opt/gearman", "system.posix_acl_access", value)
"""
PACKAGE = "lab-package"
MAKE_PACKAGE = f"""
mkdir -p /root/repository /root/package/DEBIAN && cd /root/repository
printf '%s\\n' 'Package: {PACKAGE}' 'Version: 1' 'Architecture: all' 'Maintainer: lab' \
    'Description: lab' > /root/package/DEBIAN/control
dpkg-deb --build /root/package {PACKAGE}.deb >/dev/null
{{ cat /root/package/DEBIAN/control; echo Filename: ./{PACKAGE}.deb
  echo Size: $(stat -c %s {PACKAGE}.deb)
  echo SHA256: $(sha256sum {PACKAGE}.deb | cut -d' ' -f1); }} > Packages
mv /etc/apt/sources.list /root/sources.list
echo 'deb [trusted=yes] file:/root/repository ./' > /etc/apt/sources.list
"""
REMOVE_PACKAGE = f"""
dpkg --purge {PACKAGE}; mv /root/sources.list /etc/apt/; rm -r /root/repository /root/package
"""


@dataclass(frozen=True)
class Drift:
    """What someone did by hand on a host, as root, and what a plan says of it."""

    host: str
    done: str
    planned: tuple[str, ...]


def drift(host: str, done: str, *planned: str) -> Drift:
    return Drift(host, done, planned)


# Kinds that do not touch each other are done at once, and told apart by what the plan names.
ROUNDS = {
    "attributes, links and what runs": (
        drift("client1", f"chmod 600 {PROFILE}", f"~ file {PROFILE}  (mode 0600 -> 0644)"),
        drift("server1", f"chown gearmand {SERVER}", f"~ file {SERVER}  (owner gearmand -> root)"),
        drift("worker1", f"chgrp daemon {WORKER}", f"~ file {WORKER}  (group daemon -> root)"),
        drift(
            "client1",
            "ln -sfn /bin/true /usr/local/bin/gearman",
            "~ link /usr/local/bin/gearman  (/bin/true -> /opt/gearman/current/venv/bin/gearman)",
        ),
        drift(
            "client1",
            "cd /usr/local/bin; rm gearadmin; cp /bin/true gearadmin",
            "~ link /usr/local/bin/gearadmin  (replaces a file; -> "
            "/opt/gearman/current/venv/bin/gearadmin)",
        ),
        drift(
            "server1",
            "chmod 2775 /opt/gearman/releases",
            "~ directory /opt/gearman/releases  (mode 2775 -> 0755)",
        ),
        drift(
            "worker1",
            "chown gearman-worker:daemon /opt/gearman",
            "~ directory /opt/gearman  (owner gearman-worker -> root, group daemon -> root)",
        ),
        drift(
            "server1",
            "systemctl disable -q gearmand.service",
            "~ enable gearmand.service  (it would not start at boot)",
        ),
        drift(
            "worker1",
            f"systemctl stop {WORKERS[0]}",
            f"+ start {WORKERS[0]}  (it is inactive)",
        ),
        drift(
            "worker1",
            f"systemctl mask -q {WORKERS[1]}",
            f"- file {UNITS}/{WORKERS[1]}  (it masks the unit)",
            RELOAD,
            f"~ enable {WORKERS[1]}  (it would not start at boot)",
        ),
    ),
    "contents, accounts and units changed from outside": (
        drift("client1", f"echo '# mine' >> {PROFILE}", f"~ file {PROFILE}  (content)"),
        drift(
            "client1",
            f"python3 -c '{ACCESS_LIST}'",
            "~ directory /opt/gearman  (mode 0775 -> 0755, without an access list)",
        ),
        drift(
            "client1",
            "rm /usr/local/bin/gearman",
            "+ link /usr/local/bin/gearman  (-> /opt/gearman/current/venv/bin/gearman)",
        ),
        drift("client1", f"dpkg --remove {PACKAGE} >/dev/null", f"+ packages {PACKAGE}"),
        drift(
            "client1",
            "ln -sfn /tmp /opt/gearman/current",
            "~ link /opt/gearman/current  (/tmp -> releases/{release})",
        ),
        drift(
            "server1",
            "systemctl set-property --runtime gearmand.service TasksMax=50;"
            f"mkdir -p {SERVER}.d; printf '[Service]\\nUser=root\\n' > {SERVER}.d/local.conf;"
            "systemctl daemon-reload; systemctl restart gearmand.service",
            f"- file {SERVER}.d/local.conf  (it changes the unit from outside)",
            "- file /run/systemd/system.control/gearmand.service.d/50-TasksMax.conf"
            "  (it changes the unit from outside)",
            RELOAD,
            f"~ restart gearmand.service  ({CHANGES}{DROPPED})",
        ),
        drift(
            "worker1",
            "usermod -s /bin/sh gearman-worker; usermod -g daemon gearman-worker;"
            "sed -i 's,/nonexistent:/bin/sh,/tmp:/bin/sh,' /etc/passwd",
            "~ user gearman-worker  (group daemon -> gearman-worker, home /tmp -> /nonexistent, "
            "shell /bin/sh -> /usr/sbin/nologin)",
        ),
        drift(
            "worker1",
            f"cp {WORKER} {UNITS}/{WORKERS[1]}; echo Nice=5 >> {UNITS}/{WORKERS[1]};"
            f"systemctl daemon-reload; systemctl restart {WORKERS[1]}",
            f"- file {UNITS}/{WORKERS[1]}  (the inventory gives it no settings of its own)",
            RELOAD,
            f"~ restart {WORKERS[1]}  ({CHANGES})",
        ),
    ),
    "unit files and what runs from elsewhere": (
        drift(
            "client1",
            f"cp {PROFILE} /tmp/mine; ln -sf /tmp/mine {PROFILE}",
            f"~ file {PROFILE}  (replaces a link to /tmp/mine)",
        ),
        drift(
            "client1",
            "cd /opt/gearman; rm current; echo mine > current",
            "~ link /opt/gearman/current  (replaces a file; -> releases/{release})",
        ),
        drift(
            "server1",
            f"sed -i s/WatchdogSec=30/WatchdogSec=0/ {SERVER}",
            f"~ file {SERVER}  (content)",
            RELOAD,
            f"~ restart gearmand.service  ({LATE}{DROPPED})",
        ),
        drift(
            "worker1",
            "cd /opt/gearman/releases; cp -a {release} mine;"
            "sed -i '1s,releases/{release},releases/mine,' mine/venv/bin/gearman-worker;"
            f"ln -sfn releases/mine ../current; systemctl restart {WORKERS[0]};"
            "ln -sfn releases/{release} ../current; rm mine/.complete",
            f"~ reload {WORKERS[0]}  (it runs mine)",
        ),
        drift(
            "worker1",
            f"sed -i.mine s/GEARMAN_CONFIG=.*/GEARMAN_CONFIG=older/ {WORKER};"
            f"systemctl daemon-reload; systemctl restart {WORKERS[1]};"
            f"mv {WORKER}.mine {WORKER}; systemctl daemon-reload",
            f"~ restart {WORKERS[1]}  (it runs with another configuration)",
        ),
        drift(
            "worker1",
            f"systemctl mask -q --runtime {WORKERS[2]}; systemctl stop {WORKERS[2]}",
            f"- file /run/systemd/system/{WORKERS[2]}  (it masks the unit)",
            RELOAD,
            f"+ start {WORKERS[2]}  (it is inactive)",
        ),
    ),
    "gone": (
        drift(
            "server1",
            f"rm {SERVER}; ln -s /dev/null {SERVER}; systemctl daemon-reload",
            f"~ file {SERVER}  (replaces a link to /dev/null)",
            RELOAD,
            f"~ restart gearmand.service  ({LATE}{DROPPED})",
        ),
        drift(
            "worker1",
            "userdel -f gearman-worker 2>/dev/null",
            "+ group gearman-worker",
            "+ user gearman-worker  (group gearman-worker, /usr/sbin/nologin)",
            *(f"~ restart {each}  (its user gearman-worker is gone)" for each in WORKERS),
        ),
        drift("client1", f"rm {PROFILE}", f"+ file {PROFILE}  (root:root 0644)"),
    ),
    "releases": (
        drift("client1", "rm /opt/gearman/current/.complete", "+ release {release}  ({size})"),
        drift(
            "server1",
            "rm /opt/gearman/current/venv/bin/gearadmin",
            "~ release {release}  (venv/bin/gearadmin is not as it was; {size})",
            f"~ restart gearmand.service  ({CHANGES}{DROPPED})",
        ),
        drift(
            "worker1",
            f"echo >> /opt/gearman/current/{MODULE}",
            f"~ release {{release}}  ({MODULE} is not as it was; {{size}})",
            *(f"~ restart {each}  ({CHANGES})" for each in WORKERS),
        ),
    ),
}


def processes(lab: ModuleType) -> dict[str, str]:
    """The main process of each unit."""
    found = {"server1": ("gearmand.service",), "worker1": WORKERS}
    return {
        unit: root(lab, host, f"systemctl show -P MainPID {unit}").strip()
        for host, units in found.items()
        for unit in units
    }


def changes(out: str) -> Counter[str]:
    """The changes that a plan names."""
    return Counter(line[2:] for line in out.splitlines() if re.match(r"  [+~-] ", line))


@pytest.fixture(scope="module")
def inventory(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab's, where the client has a Debian package too; its hosts are as wanted."""
    folder = tmp_path_factory.mktemp("drift") / "inventory"
    shutil.copytree(INVENTORY, folder)
    (folder / "host_vars").mkdir()
    (folder / "host_vars" / "client1.yml").write_text(f"gearman_packages: [{PACKAGE}]\n")
    root(lab, "client1", MAKE_PACKAGE)
    assert deploy.deploy(folder, ROLES, YES) == 0
    yield folder
    root(lab, "client1", REMOVE_PACKAGE)


@pytest.fixture(scope="module")
def names(lab: ModuleType, inventory: Path) -> Callable[[str], str]:
    """Puts in the release that the hosts run, and its size."""
    release = root(lab, "client1", "basename $(readlink /opt/gearman/current)").strip()
    artifact = (TARS / f"{release}.tar").stat().st_size
    return lambda text: text.replace("{release}", release).replace("{size}", format_size(artifact))


@pytest.mark.parametrize("round_", ROUNDS.values(), ids=ROUNDS)
def test_what_is_changed_by_hand_is_what_is_planned_and_what_is_mended(
    lab: ModuleType,
    inventory: Path,
    names: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    round_: tuple[Drift, ...],
) -> None:
    hosts = ("client1", "server1", "worker1")
    before = {host: manifest(lab, host) for host in hosts}
    for each in round_:
        root(lab, each.host, names(each.done))
    tampered = processes(lab)
    expected = Counter(names(line) for d in round_ for line in d.planned)
    # One reload of systemd does for all that is new to it on a host.
    expected[RELOAD] = len({d.host for d in round_ if RELOAD in d.planned})

    capsys.readouterr()
    assert deploy.plan(inventory, ROLES) == begin.CHANGES_PENDING
    assert changes(capsys.readouterr().out) == +expected
    assert deploy.deploy(inventory, ROLES, YES) == 0
    assert changes(capsys.readouterr().out) == +expected
    assert deploy.plan(inventory, ROLES) == 0

    # Nobody asked for these to be taken away again.
    root(lab, "worker1", "rm -rf /opt/gearman/releases/mine")
    root(lab, "server1", f"rmdir {SERVER}.d 2>/dev/null || true")
    for host in hosts:
        assert manifest(lab, host) == before[host]
    moved = {unit for unit, pid in processes(lab).items() if pid != tampered[unit]}
    verbs = r"[+~] (?:start|restart|reload) (\S+)"
    assert moved == {found[1] for line in expected if (found := re.match(verbs, line))}
