"""`./invoke logs`: what our units say, on one host or on all, in one stream by time."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from provision.commands.log_names import UNITS, WORKER, LogNames
from provision.errors import HostFailed, InventoryError, ToolkitError
from provision.fleet import pool
from provision.fleet.ask_all import AskAll
from provision.fleet.desired_state import DesiredState, Roles
from provision.fleet.run import Connect
from provision.inventory.host import Host
from provision.options import Options
from provision.remote.answers import decode
from provision.remote.replies import JournalEntry
from provision.remote.session import Session
from provision.report.events import Row

FIELDS = "MESSAGE,_SYSTEMD_UNIT,UNIT,PRIORITY"
NO_SUCH_UNIT = "No data available"  # of journalctl, when a pattern matches none of its units
ESCAPED = "backslashreplace"
FOLLOW_TIMEOUT = 86400.0  # seconds that someone may follow
PAST_TIMEOUT = 120.0  # seconds until what was said is told
TEXT_LIMIT = 1 << 26  # characters of what was said on a host
COMPLAINTS = 20  # lines of journalctl that are told
QUEUE_SIZE = 1000  # lines to come that are kept until they are shown

Failures = dict[Host, ToolkitError]


@dataclass(frozen=True, order=True)
class LogEntry:
    """A line of a host's journal."""

    at: float  # seconds
    host: str
    unit: str
    text: str


@dataclass(frozen=True)
class LogQuery:
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


def logs(
    folder: Path,
    roles: Roles,
    options: Options,
    name: str,
    query: LogQuery,
    *,
    connect: Connect = pool.connect,
) -> int:
    """Show lines of hosts or units called ``name`` (all of ours, if empty). Returns a status.

    Raises :class:`ToolkitError` for a name of neither.
    """
    asked, name = _limit_to(folder, options, name, connect)
    names = LogNames(asked, DesiredState(asked.inventory, roles, options, asked.report))
    query = replace(query, units=names.find_units(name) if name else UNITS)
    if query.follow and "." not in name:
        names.refuse_unknown(name, query.units)
    wide = max(len(host.name) for host in asked.hosts)
    failed: Failures = {}
    silent = True
    for entry in (_follow_entries if query.follow else _past_entries)(asked, query, failed):
        silent = False
        at = datetime.fromtimestamp(entry.at).astimezone()
        clock = at.strftime("%m-%d %H:%M:%S.%f")[:-3]
        unit = entry.unit.removesuffix(".service").removeprefix(WORKER)
        data = {"at": at.isoformat(), "host": entry.host, "unit": entry.unit, "text": entry.text}
        head = f"{clock}  {entry.host:{wide}}  {unit:8}  "
        asked.report.show(Row(data, [head + line for line in entry.text.split("\n")]))
    for host, error in failed.items():
        asked.fail(host, error)
    if silent and not failed:
        # Only now: a unit that is gone may have left lines.
        names.refuse_unknown(name, query.units)
    if silent and not failed and not options.json:
        hosts = ", ".join(host.name for host in asked.hosts)
        asked.report.say(f"nothing of {name or ', '.join(query.units)} on {hosts}")
    return asked.status


def _limit_to(folder: Path, options: Options, name: str, connect: Connect) -> tuple[AskAll, str]:
    """The hosts to ask, and what is left of ``name`` if it is not theirs or their group's."""
    try:
        limited = replace(options, limit=name or options.limit)
        return AskAll(folder, limited, connect=connect), ""
    except InventoryError as error:
        if not name or not str(error).startswith("--limit: no host"):
            raise
    return AskAll(folder, options, connect=connect), name


def _past_entries(asked: AskAll, query: LogQuery, failed: Failures) -> Iterator[LogEntry]:
    """What was said until now: the last lines of each host, in the order of time."""

    def ask(host: Host, connect: Connect) -> list[LogEntry]:
        return list(_read_entries(connect(host), query))

    found = []
    for host, result in asked.results(ask):
        if isinstance(result, ToolkitError):
            failed[host] = result
        else:
            found.append(result)
    yield from heapq.merge(*found)


def _follow_entries(asked: AskAll, query: LogQuery, failed: Failures) -> Iterator[LogEntry]:
    """What is said from now on, as it comes, until interrupted or no host is left."""
    queue: Queue[LogEntry | Host] = Queue(QUEUE_SIZE)

    def follow(host: Host) -> None:
        try:
            for entry in _read_entries(connect(host), query):
                queue.put(entry)
        except ToolkitError as error:
            failed[host] = error
        queue.put(host)

    left = set(asked.hosts)
    with pool.open_sessions(asked.connect) as connect:
        for host in asked.hosts:
            Thread(target=follow, args=(host,), daemon=True).start()
        while left:
            said = queue.get()
            if isinstance(said, LogEntry):
                yield said
            else:
                left.discard(said)


def _read_entries(session: Session, query: LogQuery) -> Iterator[LogEntry]:
    """What a host says. Raises :class:`HostFailed` with what journalctl does not like."""
    complaints = deque[str](maxlen=COMPLAINTS)
    running = session.stream(query.argv, FOLLOW_TIMEOUT if query.follow else PAST_TIMEOUT)
    lines, size = 0, 0
    for line in running:
        lines, size = lines + line.startswith("{"), size + len(line)
        if not query.follow and (lines > query.lines or size > TEXT_LIMIT):
            raise HostFailed(f"{session.name}: journalctl tells more than it was asked for")
        if line.startswith("{"):
            yield _parse_entry(session.name, line)
        elif line and not line.endswith(NO_SUCH_UNIT):
            complaints.append(line)
    if running.status and complaints:
        raise HostFailed(f"journalctl: {'; '.join(complaints)}")


def _parse_entry(host: str, line: str) -> LogEntry:
    try:
        said = decode(line.encode(errors="replace"), JournalEntry)
    except ValueError as error:
        raise HostFailed(f"{host}: malformed line of journalctl: {error}") from None
    unit = said.get("UNIT") or said.get("_SYSTEMD_UNIT") or ""
    at = int(said["__REALTIME_TIMESTAMP"]) / 1e6
    return LogEntry(at, host, unit, _message_text(said.get("MESSAGE")))


def _message_text(message: Any) -> str:
    if message is None:
        return ""
    try:
        return message if isinstance(message, str) else bytes(message).decode(errors=ESCAPED)
    except (TypeError, ValueError):  # several messages
        return str(message)
