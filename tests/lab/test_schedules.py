"""Schedules of an inventory, and the results that its job server keeps, on real hosts."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gearman_py import Client, UnknownJob
from tests.lab.hosts import root
from tests.lab.operator_commands import ROOT
from tests.lab.test_leaving import PLACE, Fleet
from tests.lab.test_upgrade import invoke

PARTS = {"job_server": "server1", "worker": "worker1", "client": "client1"}
BEFORE = (
    "gearman_schedules:",
    "  nightly: {function: wc, cron: 30 2 * * *, zone: Europe/Berlin, workload: all}",
    "  weekly: {function: wc, cron: 0 5 * * 1}",
)
AFTER = (
    "gearman_keep_results: 60 reverse=0",
    "gearman_schedules:",
    "  nightly: {function: wc, cron: 0 3 * * *, zone: Europe/Berlin, workload: all}",
    "  hourly: {function: wc, cron: 0 * * * *}",
)


@pytest.fixture
def fleet(lab: ModuleType, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "inventory")
    yield fleet
    fleet.group(**PARTS)
    fleet.deploy()
    done = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert done.status == 0, done.said


def _schedules(lab: ModuleType) -> dict[str, Any]:
    command = "gearadmin -h unix:/run/gearmand/admin.sock --json --schedules"
    return {row["name"]: row for row in json.loads(root(lab, "server1", command))}


def _deploy(fleet: Fleet, *changes: str) -> None:
    """A plan shows these changes, a deploy makes them, and then there are none."""
    planned = fleet.invoke("plan")
    assert planned.status == 2, planned.said
    shown = [line.strip() for line in planned.said.splitlines() if " schedule " in line]
    assert shown == list(changes), planned.said
    fleet.deploy()
    planned = fleet.invoke("plan")
    assert planned.status == 0, planned.said
    again = fleet.invoke("deploy", "--yes")
    assert again.status == 0, again.said
    assert " schedule " not in again.said


def test_a_deploy_makes_the_schedules_as_the_inventory_says(lab: ModuleType, fleet: Fleet) -> None:
    fleet.group(*BEFORE, **PARTS)
    _deploy(
        fleet,
        "+ schedule nightly  (30 2 * * * Europe/Berlin: wc)",
        "+ schedule weekly  (0 5 * * 1 UTC: wc)",
    )
    found = _schedules(lab)
    assert {name: row["cron"] for name, row in found.items()} == {
        "nightly": "30 2 * * *",
        "weekly": "0 5 * * 1",
    }
    own = "gearadmin -h unix:/run/gearmand/admin.sock --schedule own cron='0 5 * * *' function=wc"
    root(lab, "server1", own)
    fleet.group(*AFTER, **PARTS)
    _deploy(
        fleet,
        "+ schedule hourly  (0 * * * * UTC: wc)",
        "~ schedule nightly  (cron 30 2 * * * -> 0 3 * * *)",
        "- schedule weekly  (this job server is not to have it)",
    )
    assert _schedules(lab).keys() == {"hourly", "nightly", "own"}
    with Client(PLACE, timeout=60) as client:
        counted, reversed_ = client.do_background("wc", "a\n"), client.do_background("reverse", "a")
        assert client.result(counted).strip() == b"1"
        with pytest.raises(UnknownJob):
            while True:  # until it has ended
                client.result(reversed_)
    fleet.group(**PARTS)
    _deploy(
        fleet,
        "- schedule hourly  (this job server is not to have it)",
        "- schedule nightly  (this job server is not to have it)",
    )
    assert _schedules(lab).keys() == {"own"}
    root(lab, "server1", "gearadmin -h unix:/run/gearmand/admin.sock --delete-schedule own")
