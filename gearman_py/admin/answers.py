"""Parses the answers to administrative commands, without I/O.

The last field of a row is the address of the ``server`` that it is from.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, Self, TypeGuard, TypeVar
from urllib.parse import unquote

from gearman_py.admin.numbers import parse_count, parse_moment, parse_seconds
from gearman_py.errors import AdminError
from gearman_py.net.servers import ServerAddress

T = TypeVar("T")
bytes_ = bytes  # where a field has that name


class ServerRow(Protocol):
    """A row of a listing."""

    def _replace(self, *, server: str = ...) -> Self: ...


class FunctionStatus(NamedTuple):
    """A function: its jobs, how many of them run, and the workers that serve it."""

    name: str
    total: int
    running: int
    workers: int
    server: str = ""

    @property
    def waiting(self) -> int:
        """The jobs that no worker has taken yet."""
        return self.total - self.running

    @classmethod
    def from_line(cls, line: str) -> "FunctionStatus":
        """Parse a line of ``status``."""
        name, *counts = line.rsplit("\t", 3)
        total, running, workers = map(parse_count, counts)
        return cls(name, total, running, workers)


class PriorityStatus(NamedTuple):
    """A function: its waiting jobs by priority, and the workers that serve it."""

    name: str
    high: int
    normal: int
    low: int
    workers: int
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "PriorityStatus":
        """Parse a line of ``prioritystatus``."""
        name, *counts = line.rsplit("\t", 4)
        high, normal, low, workers = map(parse_count, counts)
        return cls(name, high, normal, low, workers)


class FunctionStats(NamedTuple):
    """A function: its jobs now, and what happened to its jobs since the start of the server.

    ``waiting`` jobs wait for a worker, the oldest for ``oldest_seconds``; ``scheduled`` ones are
    not due yet, or not stored. ``started`` runs had waited for ``wait_seconds`` in all, and those
    that ended took ``run_seconds``. ``paused`` is 1 while the function is paused; at most
    ``max_running`` of its jobs may run at a time, and ``max_started`` be started in any
    ``period_seconds`` (0: any number). ``kept_failed`` background jobs have failed and can be
    retried; ``retried`` were. ``server_paused`` is 1 while the whole server is paused. At most
    ``max_per_key`` jobs with the same unique up to the ``key_separator`` may run at a time.
    ``workers_wanted`` would keep the oldest waiting job younger than gearmand --target-wait. The
    results of ``kept_results`` background jobs can be fetched. ``paused_since`` is in seconds since
    1970, ``paused_by`` a user of the server's host or an address.
    """

    name: str
    jobs: int = 0
    running: int = 0
    waiting: int = 0
    scheduled: int = 0
    workers: int = 0
    oldest_seconds: float = 0.0
    accepted: int = 0
    coalesced: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    requeued: int = 0
    timed_out: int = 0
    cancelled: int = 0
    dropped: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0
    paused: int = 0
    max_running: int = 0
    max_started: int = 0
    period_seconds: float = 0.0
    kept_failed: int = 0
    retried: int = 0
    server_paused: int = 0
    max_per_key: int = 0
    key_separator: str = ""
    paused_since: float = 0.0
    paused_by: str = ""
    workers_wanted: int = 0
    kept_results: int = 0
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "FunctionStats":
        """Parse a line of ``stats``; keys that are not known are skipped."""
        name, *pairs = line.split("\t")
        values = dict(pair.split("=", 1) for pair in pairs)
        known: dict[str, Any] = {
            field: _PARSERS.get(field, parse_count)(values[field])
            for field in cls._fields[1:]
            if field in values
        }
        return cls(name, **known)


_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("key_separator", "paused_by"), unquote),
    "paused_since": parse_moment,
    **dict.fromkeys(
        (name for name in FunctionStats._fields if name.endswith("_seconds")), parse_seconds
    ),
}


def join_stats(one: FunctionStats, other: FunctionStats) -> FunctionStats:
    """A function over two servers."""
    oldest = max(one.oldest_seconds, other.oldest_seconds)
    pairs: Iterable[tuple[str, Any, Any]] = zip(
        one._fields[1:-1], one[1:-1], other[1:-1], strict=True
    )
    sums: dict[str, Any] = {
        name: mine if isinstance(mine, str) else mine + theirs for name, mine, theirs in pairs
    }
    since, by = max((each.paused_since, each.paused_by) for each in (one, other))
    latest = {"oldest_seconds": oldest, "paused_since": since, "paused_by": by}
    return FunctionStats(one.name, **sums | latest)


class WorkerInfo(NamedTuple):
    """A connection of the server; a client's has no functions."""

    fd: int
    address: str
    client_id: str  # "-" if it has none
    functions: tuple[str, ...]
    server: str = ""

    @classmethod
    def from_line(cls, line: str, known: Iterable[str] = ()) -> "WorkerInfo":
        """Parse a line of ``workers``; ``known`` are the functions of the server.

        A line separates names by spaces without quoting them. A name that contains a space is
        recognized if it is known; where such names overlap, the longest one is taken.
        """
        names = frozenset(known)
        spaced = sorted((name for name in names if " " in name), key=len, reverse=True)
        head, _, tail = line.rpartition(" :")
        functions = tuple(tail.split())
        for mark in re.finditer(" :", line):  # an id or a name may contain one too
            found = tuple(_split_names(line[mark.end() + 1 :], spaced))
            if names.issuperset(found):
                head, functions = line[: mark.start()], found
                break
        fd, address, client_id = head.split(" ", 2)
        return cls(parse_count(fd), address, client_id, functions)


class PauseRow(NamedTuple):
    """A function that is paused ``since`` (seconds since 1970), by a user or an address."""

    name: str
    since: int
    by: str
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "PauseRow":
        """Parse a line of ``pauses``."""
        name, since, by = line.rsplit("\t", 2)
        return cls(name, int(parse_moment(since)), by)


class JobInfo(NamedTuple):
    """A job: its handle, how often it was retried, and whether a client waits for it."""

    handle: str
    retries: int
    ignored: bool
    background: bool
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "JobInfo":
        """Parse a line of ``show jobs``."""
        handle, *facts = line.rsplit("\t", 3)
        retries, ignored, background = map(parse_count, facts)
        return cls(handle, retries, bool(ignored), bool(background))


class JobRow(NamedTuple):
    """A job: where it is, what it is, and how long it waits or runs.

    ``state``: waiting, running, scheduled, failed or complete; ``due`` is when a scheduled one may
    run, in seconds since 1970, 0 if nothing says. ``attempts`` counts the current run. ``bytes`` is
    the size of the workload, ``workload`` the part that was asked for. ``address``, ``client_id``
    and ``progress`` are those of its worker, the last one of a failed job; ``failed`` is when that
    failed, in seconds since 1970, and ``reason`` why. Of one that is complete, whose result is kept
    since ``completed``, ``bytes`` is the size of the result.
    """

    handle: str
    state: str = ""
    function: str = ""
    unique: str = ""
    priority: str = ""
    background: int = 0
    clients: int = 0
    attempts: int = 0
    bytes: int = 0
    due: float = 0.0
    seconds: float = 0.0
    address: str = ""
    client_id: str = ""
    progress: str = ""
    workload: bytes_ = b""
    failed: float = 0.0
    reason: str = ""
    completed: float = 0.0
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "JobRow":
        """Parse a line of ``jobs`` or ``job``; keys that are not known are skipped."""
        handle, *pairs = line.split("\t")
        values = dict(pair.split("=", 1) for pair in pairs)
        known: dict[str, Any] = {
            field: _ROW_PARSERS.get(field, _TYPE_PARSERS[type(usual)])(values[field])
            for field, usual in cls._field_defaults.items()
            if field in values and field != "workload"
        }
        return cls(handle, **known, workload=b64decode(values.get("workload", "")))


_TYPE_PARSERS: dict[type, Callable[[str], Any]] = {
    int: parse_count,
    float: parse_seconds,
    str: str,
}
_ROW_PARSERS: dict[str, Callable[[str], Any]] = dict.fromkeys(
    ("due", "failed", "completed"), parse_moment
)


def _split_names(words: str, spaced: list[str]) -> Iterator[str]:
    while words:
        whole = next((name for name in spaced if f"{words} ".startswith(f"{name} ")), None)
        name = words.partition(" ")[0] if whole is None else whole
        if name:
            yield name
        words = words[len(name) + 1 :]


def value_of(server: ServerAddress, line: str) -> str:
    """A one-line answer without its OK. Raises AdminError for ERR."""
    if line.startswith("ERR "):
        text = line[4:].replace("+", " ").replace("\\x2b", "+")
        raise AdminError(f"{server}: {text}")
    return line.removeprefix("OK").strip()


def is_wrong_usage(answer: object) -> TypeGuard[AdminError]:
    """Whether a server said that a command is not one that it can carry out."""
    return isinstance(answer, AdminError) and ": INVALID_ARGUMENTS" in str(answer)


def is_unknown_command(answer: object) -> TypeGuard[AdminError]:
    """Whether a server said that it does not know the command, as C gearmand does."""
    return isinstance(answer, AdminError) and "UNKNOWN_COMMAND" in str(answer)


def explain_refused_shutdown(server: ServerAddress, error: AdminError) -> AdminError:
    """Why a server refused to stop."""
    if not is_unknown_command(error):
        return error
    return AdminError(
        f"{server}: a server is stopped only through its admin socket, "
        "which gearmand --admin-listen unix:PATH opens, or by a signal"
    )


def parse_rows(
    server: ServerAddress, command: str, lines: list[str], parse: Callable[[str], T]
) -> list[T]:
    """Parse each line of a listing. Raises AdminError for a line that cannot be parsed."""
    found = []
    for line in lines:
        try:
            found.append(parse(line))
        except (ValueError, LookupError, TypeError):  # TypeError: a field is missing
            raise AdminError(f"{server} answered {command!r} with {line!r}") from None
    return found


def parse_row(
    server: ServerAddress, command: str, lines: list[str], parse: Callable[[str], T]
) -> T:
    """Parse a listing of one line. Raises AdminError if it is not that, or cannot be parsed."""
    rows = parse_rows(server, command, lines, parse)
    if len(rows) != 1:
        raise AdminError(f"{server} answered {command!r} with {len(rows)} lines instead of one")
    return rows[0]


def parse_facts(lines: Iterable[str]) -> dict[str, str]:
    """What a server says about itself."""
    return {key: value for key, _, value in (line.partition("\t") for line in lines)}
