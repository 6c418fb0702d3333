"""Parses what a server says about a schedule."""

from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from gearman_py.admin.numbers import parse_moment
from gearman_py.protocol.text import label_of


class ScheduleRow(NamedTuple):
    """A schedule: when which job is submitted.

    ``next`` is when the next run is due, and ``last`` when the last one was, whose job has the
    ``handle`` (seconds since 1970; 0: none). The others as in AdminClient.schedule().
    """

    name: str
    cron: str
    function: str
    zone: str
    workload: bytes
    unique: str
    priority: str
    missed: str
    overlap: str
    paused: bool
    next: float
    last: float
    handle: str
    owner: str = ""
    server: str = ""

    @property
    def listed_function(self) -> str:
        """Its function, as other listings and the labels of metrics name it."""
        return label_of(self.function.encode(errors="surrogateescape"))

    @classmethod
    def from_line(cls, line: str) -> "ScheduleRow":
        """Parse a line of ``schedules``."""
        name, *pairs = line.split("\t")
        quoted = dict(pair.split("=", 1) for pair in pairs)
        facts: dict[str, Any] = {
            key: unquote(quoted[key], errors="surrogateescape")
            for key in cls._fields[1:-1]
            if key in quoted
        }
        return cls(unquote(name, errors="surrogateescape"), **facts)._replace(
            workload=unquote_to_bytes(quoted["workload"]),
            paused=quoted["paused"] == "1",
            next=parse_moment(quoted["next"]),
            last=parse_moment(quoted["last"]),
        )
