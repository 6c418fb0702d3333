"""A year in the life of a fleet: what changes in an inventory comes true, and no job is lost."""

import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, GearmanError, Submit
from gearman_py.admin.client import AdminClient
from gearman_py.client.arguments import Priority
from tests.lab.hosts import CLIENT, INVENTORY, NETWORK, SERVER, WORKER, root
from tests.lab.operator_commands import ROOT
from tests.lab.test_leaving import LEFT
from tests.lab.test_upgrade import Ended, begin, invoke
from tests.waiting import await_true

ADDRESSES = {
    "client1": CLIENT,
    "server1": SERVER,
    "worker1": WORKER,
    "worker2": f"{NETWORK}.249",
    "worker3": f"{NETWORK}.250",
}
WORKERS = [host for host in ADDRESSES if host.startswith("worker")]
NOTED = "/var/lib/noted"
# Each notes what it was given; `slow` ones take their time.
NOTE = f"x=$(cat); case $x in slow*) sleep 4;; esac; echo $x >>{NOTED}/done"
INTERRUPTIONS = 10  # of a retirement
MOST_WAIT = 0.05  # seconds: what it does meanwhile is left to no later interruption
STEPS = ('{"event": "recap"', '{"event": "applied"')
UNTIL = 240.0  # seconds for all jobs to be done, on a machine that does other things too


class Fleet:
    """An inventory, the jobs that its servers have acknowledged, and a client that goes on."""

    def __init__(self, lab: ModuleType, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.servers: list[str] = []
        self.acknowledged: set[str] = set()
        shutil.copytree(INVENTORY, folder, ignore=shutil.ignore_patterns("more-workers.yml"))

    def describe(self, functions: str, groups: dict[str, str], *variables: str) -> None:
        """Write the inventory: groups with their hosts, and what workers serve."""
        login = ("ansible_user: deploy", "ansible_ssh_private_key_file: id_ed25519")
        lines = ["all:", "  vars:", *(f"    {each}" for each in (*login, *variables))]
        lines.append("    gearman_workers:")
        for name in functions.split():
            lines.append(f"      {name}: {{command: [sh, -c, '{NOTE}'], functions: [{name}],")
            lines.append(f"        concurrency: 12, writes: [{NOTED}]}}")
        lines.append("  children:")
        for group, hosts in groups.items():
            lines.append(f"    {group}:\n      hosts:")
            lines += (
                f"        {host}: {{ansible_host: {ADDRESSES[host]}}}" for host in hosts.split()
            )
        (self.folder / "hosts.yml").write_text("\n".join(lines))

    def invoke(self, task: str, *arguments: str) -> Ended:
        return invoke(ROOT, task, *arguments, hosts=self.folder)

    def deploy(self, functions: str, groups: dict[str, str], *variables: str) -> str:
        """Deploy what this says; a second deploy would change nothing."""
        self.describe(functions, groups, *variables)
        done = self.invoke("deploy", "--yes", "--release", "tree")
        assert done.status == 0, done.said
        again = self.invoke("plan", "--release", "tree")
        assert again.status == 0, again.said
        return done.said

    def submit(self, *jobs: Submit) -> None:
        """Submit background jobs, whose workloads are their names."""
        with Client(self.servers) as client:
            for job, given in zip(client.submit_many(jobs), jobs, strict=True):
                if job.handle:
                    self.acknowledged.add(str(given.workload))

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """A client goes on to submit jobs, to whichever server answers."""
        over = threading.Event()

        def submit_often() -> None:
            for number in range(1_000_000):
                if over.wait(0.1):
                    return
                try:
                    self.submit(Submit(function="note", workload=f"n{number}", background=True))
                except GearmanError:
                    continue  # none has acknowledged it

        thread = threading.Thread(target=submit_often)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def done(self) -> list[str]:
        return [
            line
            for host in WORKERS
            for line in root(self.lab, host, f"cat {NOTED}/done 2>/dev/null || true").split()
        ]


@pytest.fixture
def fleet(lab: ModuleType, tmp_path: Path) -> Iterator[Fleet]:
    lab.up(print, workers=len(WORKERS))
    for host in WORKERS:
        root(lab, host, f"rm -rf {NOTED}")
    yield Fleet(lab, tmp_path / "inventory")
    done = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert done.status == 0, done.said
    lab.up(print, workers=1)


def test_a_year_in_the_life_of_a_fleet(fleet: Fleet) -> None:
    lab = fleet.lab
    first = {"job_server": "server1", "worker": "worker1", "client": "client1"}
    fleet.deploy("note shout", first)
    # Without a login shell, as cron and systemd start programs.
    for host, command in (("client1", "gearman -f note first"), ("server1", "gearadmin --ping")):
        root(lab, host, f"env -i /usr/local/bin/{command}")
    fleet.servers = [f"{SERVER}:4730", f"{SERVER}:4731", f"{CLIENT}:4731"]
    with fleet.submitting():
        # Two workers more, a group of another name, another port.
        parts = "gearman_groups: {worker: crunchers}"
        groups = {"job_server": "server1", "crunchers": " ".join(WORKERS), "client": "client1"}
        fleet.deploy("note shout", groups, parts, "gearman_port: 4731")

        # A function less, a second job server.
        groups["job_server"] = "server1 client1"
        fleet.deploy("note", groups, parts, "gearman_port: 4731")
        with AdminClient(f"{SERVER}:4731") as admin:
            served = {row.name for row in admin.status() if row.workers}
        assert {name for name in served if "@" not in name} == {"note"}

        # The first job server retires, while it has jobs of all kinds, and is interrupted.
        fleet.servers = [f"{SERVER}:4731"]
        due = time.time() + 20
        kinds: tuple[Priority, ...] = ("low", "normal", "high")
        fleet.submit(
            *(Submit(function="note", workload=f"slow{n}", background=True) for n in range(20)),
            *(
                Submit(
                    function="later",
                    workload=f"later{n}",
                    unique=f"u{n}",
                    priority=kinds[n % 3],
                    background=True,
                )
                for n in range(400)
            ),
            *(Submit(function="later", workload=f"due{n}", at=due) for n in range(100)),
        )
        fleet.servers = [f"{SERVER}:4731", f"{CLIENT}:4731"]
        points = random.Random(seed := time.time_ns())  # noqa: S311  not a secret
        print("seed", seed)
        planned = begin(ROOT, "retire", "server1", hosts=fleet.folder).communicate()[0]
        assert re.search(r"- move 5\d\d jobs \(later 500.*\) to \S+ and stop gearmand", planned)
        at_work = 0
        for _ in range(INTERRUPTIONS):
            said = ("retire", "server1", "--yes", "--json")
            with begin(ROOT, *said, hosts=fleet.folder) as process:
                assert process.stdout
                steps = (line for line in process.stdout if line.startswith(STEPS))
                made = len([*islice(steps, points.randint(1, 2))])  # from the plan's end on
                with suppress(subprocess.TimeoutExpired):
                    process.wait(points.uniform(0, MOST_WAIT))
                process.send_signal(signal.SIGINT)
                left = process.communicate(timeout=60)[0].count('"event": "applied"')
                print(f"interrupted after {made} steps; {left} changes were made before it ended")
            at_work += process.returncode != 0
        print(f"{at_work} of {INTERRUPTIONS} interruptions were before its end")
        assert at_work >= INTERRUPTIONS / 2
        retired = fleet.invoke("retire", "server1", "--yes")
        assert retired.status == 0, retired.said
        assert "nothing of ours is left on server1" in retired.said
        assert root(lab, "server1", LEFT).split() == []

        # It leaves the inventory; a worker host becomes a client; there is a function more.
        groups |= {
            "job_server": "client1",
            "crunchers": "worker1",
            "client": "client1 worker2 worker3",
        }
        fleet.deploy("note later", groups, parts, "gearman_port: 4731")
    await_true(lambda: fleet.acknowledged <= set(fleet.done()), UNTIL, interval=1.0)
    done = fleet.done()
    twice = len(done) - len(set(done))
    print(f"{len(set(done))} jobs done, {twice} of them twice")
    assert set(done) >= fleet.acknowledged
    assert len(fleet.acknowledged) > 520
    # The folder that its workers wrote to keeps their account.
    for host in ("worker2", "worker3"):
        assert "gearman-worker@" not in root(lab, host, LEFT)
    assert "serves" not in fleet.invoke("status").said
