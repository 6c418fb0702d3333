"""`./invoke check`: whether all hosts are as wanted, in a line and in metrics.

The line and the exit status are those of a plugin of Nagios, Icinga and Naemon:
https://www.monitoring-plugins.org/doc/guidelines.html. The metrics are for the textfile collector
of node_exporter: https://github.com/prometheus/node_exporter#textfile-collector.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gearman_py.cli.check import CheckStatus, join_findings
from gearman_py.exposition import Sample, render_family
from provision.atomic_write import write_atomically
from provision.cli import inventory_path
from provision.commands.status import ask_hosts, asked_servers, find_standing
from provision.errors import ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.desired_state import Roles
from provision.fleet.past_runs import PAST_RUNS, ended_retirement
from provision.fleet.run import Connect, Run
from provision.inventory.drained import DRAINED
from provision.options import Options
from provision.wording import format_count


@dataclass(frozen=True)
class HostState:
    """What is wrong with a host, and how many changes a deploy would make."""

    host: str
    pending: int | None = None  # None: it could not be planned
    wrong: str = ""  # "" for nothing
    drained: bool = False
    retired: bool = False  # and still in the inventory


@dataclass(frozen=True)
class DeployMetric:
    """A row of the table of metrics."""

    name: str
    help: str
    read: Callable[[Sequence[HostState]], list[Sample]]
    labels: tuple[str, ...] = ("host",)
    kind: str = "gauge"


DEPLOY_METRICS = (
    DeployMetric(
        "gearman_deploy_pending_changes",
        "Changes that a deploy would make on a host that can be planned.",
        lambda states: [
            ((each.host,), each.pending) for each in states if each.pending is not None
        ],
    ),
    DeployMetric(
        "gearman_deploy_host_failed",
        "1: the host cannot be reached or planned, a unit of ours does not run there, or its job "
        "server does not answer or refuses jobs.",
        lambda states: [((each.host,), bool(each.wrong)) for each in states],
    ),
    DeployMetric(
        "gearman_deploy_checked_seconds",
        "When the hosts were asked, in seconds since 1970.",
        lambda _: [((), time.time())],
        labels=(),
    ),
)


def check(
    inventory: str,
    roles: Roles,
    options: Options,
    *,
    textfile: Path | None = None,
    connect: Connect = hosts.connect,
) -> tuple[CheckStatus, str]:
    """Write ``textfile`` if there is one, and return the status and the line.

    It is critical that a host cannot be reached or planned, that a unit of ours does not run
    there, or that its job server does not answer or refuses jobs; pending changes are a warning.
    """
    try:
        states = _ask_hosts(inventory_path(inventory), roles, options, connect)
        if textfile:
            _write_metrics(textfile, states)
    except ToolkitError as error:
        status, text = CheckStatus.UNKNOWN, _one_line(str(error))
    else:
        status, text = _judge(states)
    return status, f"GEARMAN FLEET {status.name} - {text}"


def _ask_hosts(
    inventory: Path, roles: Roles, options: Options, connect: Connect
) -> list[HostState]:
    with Run(inventory, roles, options, connect) as run:
        run.inventory.refuse_mistakes()
        run.plan_hosts()
        answers = ask_hosts(run)
        failed = {name: str(error) for name, error in run.failed.items()}
        for host_run in run.host_runs:
            if problems := host_run.plan.problems:
                failed[host_run.name] = problems[0].message
                continue
            units = find_standing(host_run).units.items()
            stopped = [f"{name} is {unit['active']}" for name, unit in units if _is_down(unit)]
            if stopped:
                failed[host_run.name] = ", ".join(stopped)
        for server in asked_servers(run, answers):
            if server.problem:
                failed.setdefault(server.host_run.name, server.problem)
        planned = {
            each.name: len(each.plan.changes) for each in run.host_runs if not each.plan.problems
        }
        retired = {e.name for e in run.host_runs if ended_retirement(e.answers[PAST_RUNS])}
        return [
            HostState(
                host.name,
                planned.get(host.name),
                failed.get(host.name, ""),
                drained=DRAINED in host.groups,
                retired=host.name in retired,
            )
            for host in run.inventory.hosts
        ]


def _is_down(unit: Mapping[str, Any]) -> bool:
    """Whether a unit that a deploy has started does not run."""
    return unit["active"] not in ("active", "reloading", "absent")


def _judge(states: Sequence[HostState]) -> tuple[CheckStatus, str]:
    wrong = [(each.host, _one_line(each.wrong)) for each in states if each.wrong]
    due = [each for each in states if each.pending]
    status = CheckStatus.WARNING if due else CheckStatus.OK
    if wrong:
        status = CheckStatus.CRITICAL
    found = [text if text.startswith(f"{host}: ") else f"{host}: {text}" for host, text in wrong]
    found += [f"{each.host}: {_describe_pending(each)}" for each in due]
    text = join_findings(found) or f"{format_count(len(states), 'host')} as wanted"
    if drained := [each.host for each in states if each.drained]:
        text += f" (drained: {join_findings(drained, ', ')})"
    figures = f"pending={sum(each.pending or 0 for each in due)};0;;0 failed={len(wrong)};;0;0"
    return status, f"{text} | {figures}"


def _describe_pending(state: HostState) -> str:
    if state.retired:
        return "retired, but still in the inventory"
    return f"{format_count(state.pending or 0, 'change')} pending"


def _one_line(text: str) -> str:
    """Its first line, as a plugin may print it."""
    return join_findings([text.splitlines()[0]])


def _write_metrics(path: Path, states: Sequence[HostState]) -> None:
    parts = (part for each in DEPLOY_METRICS for part in render_family(each, each.read(states)))
    try:
        write_atomically(path, b"".join(parts))
    except OSError as error:
        raise ToolkitError(f"--textfile {path}: {error.strerror}") from error
