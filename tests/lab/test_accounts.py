"""Whom the services run as, and a fleet of which everything ran as one account."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, Submit, Worker
from provision.commands.smoke import smoke
from provision.doctor.doctor import doctor
from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, NETWORK, root
from tests.lab.test_upgrade import invoke, release, tree

ROOT = Path(__file__).resolve().parents[2]
SERVER = f"{NETWORK}.247:4730"
YES = Options(yes=True)
# server1 is a worker too; with these variables for all.
BOTH = "all: {{vars: {{{}}}, children: {{worker: {{hosts: {{server1: }}}}}}}}\n"
# What the toolkit of before made of a host: one user, which owns the queue and reads the key.
BEFORE = """
groupadd --system gearman 2>/dev/null || true
useradd --system --gid gearman --home-dir /nonexistent --shell /usr/sbin/nologin gearman
cd /etc/systemd/system
for unit in gearmand.service gearman-worker@.service; do
    test -e $unit || continue
    sed -i -E 's/^(User|Group)=.*/\\1=gearman/; s/^(.*GEARMAN_CONFIG=).*/\\1before/' $unit
    sed -i '/GEARMAN_RELOAD_KEY=/d' $unit
    cp $unit /opt/gearman/current/units/
done
systemctl daemon-reload
units="systemctl list-units --state=active --plain --no-legend"
systemctl restart $($units 'gearman*.service' | cut -d' ' -f1)
userdel gearman-worker; userdel gearmand 2>/dev/null || true
"""
# Accounts are made again, with the numbers that they get on a bare host.
BARE = """
systemctl stop 'gearman*'; rm -rf /etc/gearman
for name in gearman gearmand gearman-worker; do userdel $name || true; groupdel $name || true; done
"""
WORKERS = tuple(f"gearman-worker@{each}" for each in ("reverse", "resize", "wc"))
AS_WORKER = "setpriv --reuid gearman-worker --regid gearman-worker --init-groups"
ADMIN = "/opt/gearman/current/venv/bin/gearadmin -h unix:/run/gearmand/admin.sock --status"
USERS = (
    "ps -eo user:20,args | sed -nE 's,^(gear[a-z-]*) .*/bin/(gear[a-z-]*) .*,\\1 \\2,p' | sort -u"
)


@pytest.fixture(scope="module")
def fleet(
    lab: ModuleType, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """The lab's inventory with a host that is job server and worker, deployed.

    Each test makes it a fleet of before, and leaves it as a deploy does: those with the same
    settings, one after another, share it.
    """
    folder = tmp_path_factory.mktemp("accounts") / "fleet"
    shutil.copytree(INVENTORY, folder)
    (folder / "more.yml").write_text(BOTH.format(request.param))
    assert deploy.deploy(folder, ROLES, YES) == 0
    yield folder
    root(lab, "server1", "systemctl disable -q --now " + " ".join(WORKERS))
    root(lab, "server1", "rm /etc/systemd/system/gearman-worker@.service; systemctl daemon-reload")
    for host in ("server1", "worker1", "client1"):
        root(lab, host, BARE)
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0


def queued(workloads: set[bytes]) -> None:
    with Client(SERVER, timeout=60) as client:
        client.submit_many(
            [Submit(function="kept", workload=each, background=True) for each in workloads]
        )


def drained() -> list[bytes]:
    done: list[bytes] = []
    worker = Worker(SERVER)
    worker.add_function("kept", lambda job: done.append(job.workload))
    worker.work()
    return done


@pytest.mark.parametrize("fleet", ["gearman_tls: false"], indirect=True)
def test_a_fleet_that_ran_as_one_account_is_taken_over_and_no_job_is_lost(
    lab: ModuleType, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("server1", "worker1"):
        root(lab, host, BEFORE)
        root(lab, host, "rm -rf /etc/gearman/tls")  # whose key the group may read
    assert root(lab, "server1", "stat -c %U /var/lib/gearmand/queue.db") == "gearman\n"
    doctor(fleet, ROLES, Options())
    assert capsys.readouterr().out.count("user gearman is there, and nothing needs it") == 2
    drained()
    workloads = {b"%d" % number for number in range(500)}
    queued(workloads)

    assert deploy.deploy(fleet, ROLES, YES) == 0
    assert deploy.plan(fleet, ROLES) == 0, "a second deploy has nothing to do"
    assert sorted(drained()) == sorted(workloads)
    assert smoke(fleet) == 0
    both = "gearman-worker gearman-worker\ngearmand gearmand\n"
    assert root(lab, "server1", USERS) == both
    assert root(lab, "worker1", USERS) == "gearman-worker gearman-worker\n"
    for host in ("server1", "worker1"):
        assert root(lab, host, "getent passwd gearman || getent group gearman || true") == ""
    refused = f"{AS_WORKER} cat /var/lib/gearmand/queue.db 2>&1 || true"
    assert "Permission denied" in root(lab, "server1", refused)
    assert "Permission denied" in root(lab, "server1", f"{AS_WORKER} {ADMIN} 2>&1 || true")
    root(lab, "server1", ADMIN)


@pytest.mark.parametrize("fleet", ["gearman_tls: false"], indirect=True)
def test_an_account_that_something_else_needs_stays(
    lab: ModuleType, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root(lab, "worker1", BEFORE)
    root(lab, "worker1", "systemd-run --quiet --unit=mine --uid=gearman sleep 600")
    root(lab, "worker1", "install -D -o gearman /dev/null /srv/reports/may")
    try:
        assert deploy.deploy(fleet, ROLES, YES) == 0
        assert deploy.plan(fleet, ROLES) == 0
        root(lab, "worker1", "id gearman")
        capsys.readouterr()
        doctor(fleet, ROLES, Options())
        said = capsys.readouterr().out
        assert re.search(r"which nothing of ours needs, is kept: sleep \(pid \d+, mine.serv", said)
        assert "/srv/reports/may is its own" in said
    finally:
        root(lab, "worker1", "systemctl stop mine; rm -r /srv/reports")
    assert deploy.deploy(fleet, ROLES, YES) == 0
    assert root(lab, "worker1", "getent passwd gearman || echo gone") == "gone\n"


@pytest.mark.parametrize("fleet", ["gearman_tls: false"], indirect=True)
def test_the_group_of_a_key_that_was_put_there_by_hand_stays(lab: ModuleType, fleet: Path) -> None:
    root(lab, "worker1", BEFORE)
    key = "/etc/gearman/mine.key"
    root(lab, "worker1", f"rm -rf /etc/gearman; install -D -m 640 -g gearman /dev/null {key}")
    assert deploy.deploy(fleet, ROLES, YES) == 0
    assert root(lab, "worker1", "getent passwd gearman || echo gone") == "gone\n"
    assert root(lab, "worker1", f"stat -c %G {key}") == "gearman\n"
    assert deploy.plan(fleet, ROLES) == 0
    root(lab, "worker1", "rm -r /etc/gearman; groupdel gearman")
    assert deploy.deploy(fleet, ROLES, YES) == 0


@pytest.mark.parametrize("fleet", ["gearman_tls: true"], indirect=True)
def test_a_takeover_in_parts_leaves_the_account_until_nothing_runs_as_it(
    lab: ModuleType, fleet: Path
) -> None:
    for host in ("server1", "worker1"):
        root(lab, host, BEFORE)
    for tags in ("former", "unit,former"):
        assert deploy.deploy(fleet, ROLES, Options(yes=True, tags=tags)) == 0
        both = "gearman-worker gearman-worker\ngearmand gearmand\n"
        was = "gearman gearman-worker\ngearman gearmand\n"
        assert root(lab, "server1", USERS) == (was if tags == "former" else both)
        there = root(lab, "server1", "getent passwd gearman || echo gone") != "gone\n"
        assert there == (tags == "former")
        assert smoke(fleet) == 0
    assert deploy.deploy(fleet, ROLES, YES) == 0
    assert deploy.plan(fleet, ROLES) == 0
    assert smoke(fleet) == 0


@pytest.mark.parametrize("fleet", ["gearman_tls: true"], indirect=True)
def test_an_upgrade_and_a_rollback_across_the_change_keep_jobs_and_keys(
    lab: ModuleType, fleet: Path, tmp_path: Path
) -> None:
    root(lab, "client1", "userdel -r ana 2>/dev/null || true; useradd -m -G gearman ana")
    for host in ("server1", "worker1"):
        root(lab, host, BEFORE)
    old = release(lab, "worker1")
    new = invoke(tree(tmp_path / "tree"), "upgrade", "--yes", "--gap", hosts=fleet)
    assert new.status == 0, new.said
    assert root(lab, "server1", USERS).count("gearman-worker") == 2
    assert invoke(tmp_path / "tree", "plan", hosts=fleet).status == 0
    assert smoke(fleet) == 0
    ana = "su -l ana -c 'gearman -f wc < /etc/passwd'"
    assert root(lab, "client1", ana)

    back = invoke(tmp_path / "tree", "rollback", "--yes", "--gap", hosts=fleet)
    assert back.status == 0, back.said
    assert release(lab, "worker1") == old
    assert smoke(fleet) == 0
    assert root(lab, "server1", "stat -c %U /var/lib/gearmand") == "gearmand\n"
    kept = root(lab, "server1", "grep ^User= /opt/gearman/current/units/gearmand.service")
    assert kept == "User=gearman\n"
    assert root(lab, "server1", "getent passwd gearman || echo gone") == "gone\n"
    root(lab, "client1", "userdel -r ana 2>/dev/null")
