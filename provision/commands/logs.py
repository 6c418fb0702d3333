"""`invoke logs`: what our units say, on one host or on all, in one stream in the order of time."""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from provision.errors import HostFailed, InventoryError, ToolkitError
from provision.fleet import pool as hosts
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.options import Options
from provision.remote.session import Session
from provision.report.events import Failed, Row
from provision.report.reporter import reporter

SERVER = ("gearmand.service", "gearmand.socket")
UNITS = (*SERVER, "gearman-worker@*.service")
FIELDS = "MESSAGE,_SYSTEMD_UNIT,UNIT,PRIORITY"
NO_SUCH_UNIT = "No data available"  # of journalctl, when a pattern matches none of its units
DAY = 86400.0  # seconds that somebody may follow


@dataclass(frozen=True, order=True)
class Entry:
    """A line of a host's journal."""

    at: float  # seconds
    host: str
    unit: str
    text: str


@dataclass(frozen=True)
class Wanted:
    """Which lines: of these units, the last ``lines``, since then, and those to come."""

    units: tuple[str, ...] = UNITS
    lines: int = 50
    since: str = ""
    follow: bool = False

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if self.lines < 0:
            raise ToolkitError(f"--lines {self.lines}: say 0 or more")

    @property
    def argv(self) -> list[str]:
        """The command that tells them, each as a line of JSON."""
        # Without --all it leaves out what is longer than 4096 bytes.
        argv = ["journalctl", "--output=json", "--all", f"--output-fields={FIELDS}", "--quiet"]
        argv += [f"--unit={unit}" for unit in self.units]
        argv += [f"--since={self.since}"] if self.since else []
        argv += ["--follow"] if self.follow else ["--no-pager"]
        return [*argv, f"--lines={self.lines}"]


def logs(folder: Path, options: Options, name: str, wanted: Wanted) -> int:
    """Show lines of hosts or units called ``name`` (all of ours, if empty). Returns a status."""
    known, units = _meant(folder, options, name)
    wanted = Wanted(units or wanted.units, wanted.lines, wanted.since, wanted.follow)
    report = reporter(options, [host.name for host in known])
    wide = max(len(host.name) for host in known)
    failed: dict[str, ToolkitError] = {}
    entries = _followed(known, wanted, failed) if wanted.follow else _past(known, wanted, failed)
    silent = True
    for entry in entries:
        silent = False
        at = datetime.fromtimestamp(entry.at).astimezone()
        clock = at.strftime("%m-%d %H:%M:%S.%f")[:-3]
        unit = entry.unit.removesuffix(".service").removeprefix("gearman-worker@")
        data = {"at": at.isoformat(), "host": entry.host, "unit": entry.unit, "text": entry.text}
        head = f"{clock}  {entry.host:{wide}}  {unit:8}  "
        report.show(Row(data, "\n".join(head + line for line in entry.text.split("\n"))))
    for host, error in failed.items():
        report.show(Failed(host, error, 0))
    if silent and not failed and not options.json:
        report.say(f"nothing of {', '.join(wanted.units)} on {_names(known)}")
    return max((error.status for error in failed.values()), default=0)


def _meant(folder: Path, options: Options, name: str) -> tuple[tuple[Host, ...], tuple[str, ...]]:
    """The hosts, and the units if ``name`` is one: gearmand, a function, a unit's whole name."""
    try:
        return inventory.load(folder, name or options.limit).hosts, ()
    except InventoryError as error:
        if not name or not str(error).startswith("--limit: no host"):
            raise
    known = inventory.load(folder, options.limit).hosts
    if "." in name:
        return known, (name,)
    return known, SERVER if name == "gearmand" else (f"gearman-worker@{name}.service",)


def _names(known: Iterable[Host]) -> str:
    return ", ".join(host.name for host in known)


def _past(
    known: Iterable[Host], wanted: Wanted, failed: dict[str, ToolkitError]
) -> Iterator[Entry]:
    """What was said until now: the last lines of each host, in the order of time."""
    found = []
    with hosts.sessions() as connect:
        for host, result in hosts.each(known, lambda host: list(_entries(connect(host), wanted))):
            if isinstance(result, ToolkitError):
                failed[host.name] = result
            else:
                found.append(result)
    yield from heapq.merge(*found)


def _followed(
    known: Iterable[Host], wanted: Wanted, failed: dict[str, ToolkitError]
) -> Iterator[Entry]:
    """What is said from now on, as it comes, until interrupted or no host is left."""
    queue: SimpleQueue[Entry | str] = SimpleQueue()

    def follow(host: Host) -> None:
        try:
            for entry in _entries(connect(host), wanted):
                queue.put(entry)
        except ToolkitError as error:
            failed[host.name] = error
        queue.put(host.name)

    left = {host.name for host in known}
    with hosts.sessions() as connect:
        for host in known:
            Thread(target=follow, args=(host,), daemon=True).start()
        while left:
            said = queue.get()
            if isinstance(said, Entry):
                yield said
            else:
                left.discard(said)


def _entries(session: Session, wanted: Wanted) -> Iterator[Entry]:
    """What a host says. Raises :class:`HostFailed` with what journalctl does not like."""
    rest, complaints = "", []
    running = session.stream(wanted.argv, DAY)
    for said in running:
        *lines, rest = (rest + said).split("\n")
        for line in lines:
            if line.startswith("{"):
                yield _entry(session.name, json.loads(line))
            elif line and not line.endswith(NO_SUCH_UNIT):
                complaints.append(line)
    if running.status and complaints:
        raise HostFailed(f"journalctl: {'; '.join(complaints)}")


def _entry(host: str, said: dict[str, Any]) -> Entry:
    text = said.get("MESSAGE") or ""
    if isinstance(text, list):  # bytes that are no UTF-8
        text = bytes(text).decode(errors="backslashreplace")
    unit = said.get("UNIT") or said.get("_SYSTEMD_UNIT") or ""
    return Entry(int(said["__REALTIME_TIMESTAMP"]) / 1e6, host, unit, text)
