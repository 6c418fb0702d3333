"""What leaves the inventory leaves the hosts: parts of a host, and whole ones."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, Submit, Worker
from tests.lab.hosts import CLIENT, INVENTORY, SERVER, WORKER, root
from tests.lab.operator_commands import ROOT
from tests.lab.test_upgrade import Ended, invoke

PLACE = f"{SERVER}:4730"
ADDRESSES = {"client1": CLIENT, "server1": SERVER, "worker1": WORKER}
# What a deploy may have left: units, processes, files and accounts.
LEFT = """
ls /etc/systemd/system | grep gearman || true
systemctl list-units --all --plain --no-legend 'gearman*' | cut -d' ' -f1
ps -eo args | grep /opt/gearman | grep -v grep || true
ls -d /etc/gearman /opt/gearman /var/lib/gearmand /etc/profile.d/gearman.sh 2>/dev/null || true
ls /usr/local/bin
getent passwd | grep ^gear || true; getent group | grep ^gear || true
"""
# What earlier tests' workers wrote keeps their account.
REMOVE_DATA = """
find /var/lib /var/cache /var/spool /srv -mindepth 1 -maxdepth 1 -user gearman-worker \
    -exec rm -r {} + 2>/dev/null || true
"""
MINE = "/etc/systemd/system/gearman-worker@mine.service"


class Fleet:
    """An inventory of the lab's hosts, in groups that change."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(INVENTORY, folder)
        self.folder = folder

    def group(self, *variables: str, **hosts: str) -> None:
        login = ("ansible_user: deploy", "ansible_ssh_private_key_file: id_ed25519")
        lines = [
            "all:",
            "  vars:",
            *(f"    {each}" for each in (*login, *variables)),
            "  children:",
        ]
        for group, host in hosts.items():
            lines.append(f"    {group}: {{hosts: {{{host}: {{ansible_host: {ADDRESSES[host]}}}}}}}")
        (self.folder / "hosts.yml").write_text("\n".join(lines))

    def invoke(self, task: str, *arguments: str) -> Ended:
        return invoke(ROOT, task, *arguments, hosts=self.folder)

    def deploy(self) -> None:
        done = self.invoke("deploy", "--yes")
        assert done.status == 0, done.said


FAILED = "systemctl list-units --failed --plain --no-legend 'gearman*'"
DROP_IN = "/run/systemd/system/gearman-worker@wc.service.d"
FAIL = (
    f"mkdir {DROP_IN} && printf '[Service]\\nRestart=no\\nExecStart=\\nExecStart=/bin/false\\n' "
    f">{DROP_IN}/fail.conf && systemctl daemon-reload && ! systemctl restart gearman-worker@wc && "
    f"rm -r {DROP_IN} && systemctl daemon-reload"
)


@pytest.fixture
def fleet(lab: ModuleType, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "inventory")
    for host in ADDRESSES:
        root(lab, host, REMOVE_DATA)
    yield fleet
    root(lab, "worker1", f"systemctl stop gearman-worker@mine; rm -rf {MINE} /etc/gearman")
    done = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert done.status == 0, done.said


def test_hosts_change_their_part_and_retire(lab: ModuleType, fleet: Fleet) -> None:
    secure = ("gearman_tls: true", "gearman_firewall: true")
    fleet.group(*secure, job_server="server1", worker="worker1", client="client1")
    fleet.deploy()
    # Of someone else: a unit with a name like ours, and a file beside ours.
    root(lab, "worker1", f"printf '[Service]\\nExecStart=/bin/sleep 999\\n' >{MINE}")
    root(lab, "worker1", "systemctl daemon-reload; systemctl start gearman-worker@mine")
    root(lab, "worker1", "touch /etc/gearman/notes")
    root(lab, "worker1", FAIL)
    assert "gearman-worker@wc.service" in root(lab, "worker1", FAILED)

    fleet.group(job_server="server1", worker="client1", client="worker1")
    fleet.deploy()
    assert root(lab, "worker1", FAILED).strip() == ""
    left = root(lab, "worker1", LEFT).split()
    assert "gearman-worker@mine.service" in left
    assert root(lab, "worker1", "systemctl is-active gearman-worker@mine").strip() == "active"
    assert root(lab, "worker1", "ls -A /etc/gearman").split() == ["environment", "notes"]
    assert not [each for each in left if "gearman-worker" in each and "mine" not in each]
    assert "gearman-firewall.service" not in root(lab, "server1", LEFT)
    assert "gearman" not in root(lab, "server1", "getent group").split(":")
    assert root(lab, "server1", "nft list tables").strip() == ""
    assert fleet.invoke("smoke").status == 0

    # A worker of a host that vanished is named.
    fleet.group(job_server="server1", worker="server1", client="worker1")
    assert "client1:" in fleet.invoke("status").said
    problems = fleet.invoke("doctor", "--problems").said
    assert f"at {CLIENT} serves wc" in problems
    assert "  ok  " not in problems

    # A job server retires when no job is left in it, and can be asked to twice.
    fleet.group(job_server="server1", worker="client1", client="worker1")
    with Client(PLACE, timeout=60) as client:
        client.submit_many([Submit(function="kept", workload=b"1", background=True)] * 3)
    refused = fleet.invoke("retire", "server1", "--yes")
    assert refused.status == 3
    assert "its job server holds 3 jobs (kept 3)" in refused.said
    done: list[bytes] = []
    worker = Worker(PLACE)
    worker.add_function("kept", lambda job: done.append(job.workload))
    worker.work()
    assert len(done) == 3
    last = fleet.invoke("retire", "server1,client1", "--yes")
    assert last.status == 3
    assert "server1  failed  it is the last job server, and worker1 would have none" in last.said
    fleet.group(job_server="server1", worker="client1")
    for _ in range(2):
        ended = fleet.invoke("retire", "server1,client1", "--yes")
        assert ended.status == 0, ended.said
    for host in ("server1", "client1"):
        assert root(lab, host, LEFT).split() == []
    assert re.search(r"all 2 hosts: \S+ -> none, .* ok", fleet.invoke("history").said)
    assert "server1: it was retired at" in fleet.invoke("status").said
