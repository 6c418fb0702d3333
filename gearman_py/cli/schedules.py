"""gearadmin's commands for schedules."""

from argparse import Namespace
from typing import Any, NamedTuple

from gearman_py.admin.client import AdminClient
from gearman_py.admin.schedule_row import ScheduleRow
from gearman_py.cli.failed_jobs import format_time

FACTS = "cron", "function", "zone", "workload", "unique", "priority", "missed", "overlap", "owner"


class ScheduleLine(NamedTuple):
    """A schedule, as it is listed. ``next`` and ``last`` are times in UTC, if there are any."""

    name: str
    cron: str
    zone: str
    function: str
    next: str | None
    last: str | None
    paused: bool
    missed: str
    overlap: str
    priority: str
    unique: str
    handle: str
    workload: str
    owner: str
    server: str

    @classmethod
    def from_row(cls, row: ScheduleRow) -> "ScheduleLine":
        """The line of a schedule."""
        facts = row._asdict() | {
            "workload": row.workload.decode(errors="backslashreplace"),
            "function": row.listed_function,
        }
        for key in ("next", "last"):
            facts[key] = format_time(facts[key]) if facts[key] else None
        if row.paused:
            facts["next"] = None
        return cls(*(facts[field] for field in cls._fields))


def read_schedules(client: AdminClient, options: Namespace) -> list[ScheduleLine]:
    """The schedules of a function, or all."""
    wanted = options.schedules
    rows = [row for row in client.schedules() if wanted in ("", row.function, row.listed_function)]
    return list(map(ScheduleLine.from_row, rows))


def set_schedule(client: AdminClient, name: str, *words: str) -> None:
    """Add or replace a schedule. Raises ValueError."""
    facts: dict[str, Any] = dict(word.split("=", 1) for word in words if "=" in word)
    given = [word.partition("=")[0] for word in words]
    if twice := next((key for key in given if given.count(key) > 1), ""):
        raise ValueError(f"--schedule {name}: {twice}= is given twice")
    if len(facts) < len(words) or facts.keys() - set(FACTS):
        raise ValueError(f"--schedule {name}: expected {'=, '.join(FACTS)}= after the name")
    if missing := [key for key in FACTS[:2] if not facts.get(key)]:
        raise ValueError(f"--schedule {name}: {missing[0]}= is missing")
    workload = facts.pop("workload", "").encode(errors="surrogateescape")
    client.schedule(name, facts.pop("cron"), facts.pop("function"), workload, **facts)
