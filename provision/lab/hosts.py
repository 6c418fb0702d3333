"""Which hosts the lab has: those of `inventory/lab`, and workers beside them.

Other labs have the same hosts in networks of their own, and their inventory under `.cache`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from provision.errors import ToolkitError
from provision.lab import base
from provision.lab.machine import Machine
from provision.lab.network import PREFIX
from provision.lab.number import NUMBER

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "inventory" / "lab" / "hosts.yml"
INVENTORY = SOURCE.parent if NUMBER == 1 else ROOT / ".cache" / f"lab-{NUMBER}"

EXAMPLE = ROOT / "examples" / "lab"
"""An inventory of the first lab's hosts, with workers of every kind."""

FREE = (*range(249, 255), *range(101, 200))
"""Last octets for worker2 and up."""


def first_three() -> list[Machine]:
    groups: Mapping[str, Any] = yaml.safe_load(hosts_of_this_lab())["all"]["children"]
    return [
        Machine(name, group, host["ansible_host"])
        for group, content in groups.items()
        for name, host in content["hosts"].items()
    ]


def hosts_of_this_lab() -> str:
    """``inventory/lab/hosts.yml`` with the addresses of this lab."""
    return SOURCE.read_text().replace("198.18.10.", f"{PREFIX}.")


def more_workers(workers: int) -> list[Machine]:
    """The workers after the first."""
    most = 1 + len(FREE)
    if not 1 <= workers <= most:
        raise ToolkitError(f"the lab can have 1 to {most} workers, not {workers}")
    numbers = enumerate(FREE[: workers - 1], start=2)
    return [Machine(f"worker{n}", "worker", f"{PREFIX}.{octet}") for n, octet in numbers]


def standing_machines() -> list[Machine]:
    """The hosts that have a tree, whether they run or not."""
    possible = first_three() + more_workers(1 + len(FREE))
    return [machine for machine in possible if machine.folder.exists()]


def known_machines() -> list[Machine]:
    """The three, whether they stand or not, and the workers that stand beside them."""
    three = first_three()
    return three + [machine for machine in standing_machines() if machine not in three]


def find_machine(host: str) -> Machine:
    for machine in known_machines():
        if machine.name == host:
            return machine
    raise ToolkitError(f"the lab has no host {host}; it has {format_names(known_machines())}")


def choose_suites(machines: Sequence[Machine], suites: Mapping[str, str]) -> dict[Machine, str]:
    """What each host is to be."""
    names = [machine.name for machine in machines]
    for name, suite in suites.items():
        if name not in ("all", *names):
            raise ToolkitError(f"the lab has no host {name}; it has all, {', '.join(names)}")
        base.check(suite)
    every = suites.get("all", base.SUITE)
    return {machine: suites.get(machine.name, every) for machine in machines}


def format_names(machines: Sequence[Machine]) -> str:
    return ", ".join(machine.name for machine in machines)
