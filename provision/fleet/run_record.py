"""What a run did is written down: on each host in its history, and for each dashboard.

A dashboard cannot ask the hosts, so it is told at the end of each run, also if that leaves out the
dashboard's host.
"""

from collections.abc import Callable, Iterable, Mapping
from secrets import token_hex
from typing import Any

from provision.errors import ToolkitError
from provision.fleet.host_run import HostRun
from provision.fleet.past_runs import BEGUN, write_entry
from provision.fleet.pool import open_sessions
from provision.inventory.host import Host, Inventory
from provision.remote.session import Session
from provision.report.reporter import Reporter
from provision.resources.dashboard import DEPLOYS_FILE

TOLD_ALIKE = ("result", "release", "from", "apps")  # by hosts that share a line


class RunRecord:
    """Writes the entries of a run; what cannot be written stops nothing."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._id = token_hex(4)
        self._entries: list[tuple[str, dict[str, Any]]] = []  # by host

    def add(
        self, host_run: HostRun, result: str, seconds: float, flags: Mapping[str, bool]
    ) -> None:
        """Add an entry to the history of a host; see :func:`write_entry`."""
        try:
            entry = write_entry(host_run, self._id, result, seconds, flags)
        except ToolkitError as error:
            self._report.say(f"{host_run.name}: its history lacks this run: {error}")
        else:
            self._entries.append((host_run.name, entry))

    def tell_dashboards(self, inventory: Inventory, connect: Callable[[Host], Session]) -> None:
        """Add the run to what each dashboard reads."""
        lines = fold_entries(self._entries)
        for host in inventory.group("dashboard") if lines else ():
            try:
                with open_sessions(connect) as connect_anew:  # a host that was changed is left
                    session = connect_anew(host)
                    for line in lines:
                        session.record(DEPLOYS_FILE, line)
            except ToolkitError as error:
                first = str(error).splitlines()[0]
                self._report.say(f"{host.name}: the page of deploys lacks this run: {first}")


def fold_entries(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One line for all hosts where a run went alike, with their ``hosts`` and all ``changes``."""
    lines: dict[str, dict[str, Any]] = {}
    for host, entry in entries:
        if entry["result"] == BEGUN:
            continue
        alike = str([entry.get(name) for name in TOLD_ALIKE])
        line = lines.setdefault(alike, {**entry, "hosts": [], "changes": 0})
        line["hosts"].append(host)
        line["changes"] += entry["changes"]
        line["seconds"] = max(line["seconds"], entry["seconds"])
    for line in lines.values():
        line["hosts"].sort()
    return list(lines.values())
