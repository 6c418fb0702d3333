"""Schedules: jobs that the server submits at times that a crontab expression says.

In a durable queue a schedule is a record, whose function has a name that clients cannot send (as in
restriction_records). It says when the next run is due, and is rewritten in the group that has the
job of a run: so each run is submitted once, whenever the server dies. Like jobs, schedules go to
the server that takes over in a shared database.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from gearman_py.broker.counts import Counts
from gearman_py.broker.state import NORMAL, BrokerJob, Function
from gearman_py.store.base import Record

SCHEDULE_NAME = b"\0schedule"
MAX_SCHEDULES = 10_000
ALL, ONCE, NONE = MISSED = ("all", "once", "none")
LATE = 60.0  # seconds after which a run counts as missed

NextRun = Callable[[str, str, float], float]
"""When a crontab expression in a time zone matches next after a time (seconds since 1970; inf:
never). Raises ValueError; NoSchedules if none can be worked out."""


class NoSchedules(ValueError):
    """Nothing here can tell when a crontab expression matches."""


def without_schedules(cron: str, zone: str, after: float) -> float:
    """Refuses every expression."""
    raise NoSchedules("this broker has no schedules")


@dataclass(slots=True)
class Schedule:
    """When which job is submitted.

    ``missed``: which of the runs that were due while no server ran are made up. ``skip``: a run is
    left out while the job of the last one, ``handle``, is queued or runs. ``next`` is when the next
    run is due, ``last`` when the last one was (seconds since 1970; 0: none). ``owner``: what set
    it, if that is not a person.
    """

    name: bytes
    function: bytes
    cron: str
    zone: str = "UTC"
    unique: bytes = b""
    workload: bytes = b""
    priority: int = NORMAL
    missed: str = ONCE
    skip: bool = False
    owner: bytes = b""
    paused: bool = False
    next: float = inf
    last: float = 0.0
    handle: bytes = b""
    number: int = 0
    deleted: bool = False

    def pack(self) -> dict[str, Any]:
        """As an object that JSON can represent."""
        facts = asdict(self) | {"next": None if self.next == inf else self.next}
        return {
            key: value.decode("latin-1") if isinstance(value, bytes) else value
            for key, value in facts.items()
        }


def unpack_schedule(facts: dict[str, Any]) -> Schedule:
    """The inverse of ``pack``. Raises ValueError."""
    known = {field.name: field.type for field in fields(Schedule)}
    try:
        values = {
            key: value.encode("latin-1") if known[key] is bytes else value
            for key, value in facts.items()
            if key in known
        }
        return Schedule(**values | {"next": inf if facts["next"] is None else facts["next"]})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("a record does not describe a schedule") from error


class Schedules:
    """All schedules by name, and when they are due."""

    def __init__(self) -> None:
        self._schedules: dict[bytes, Schedule] = {}
        self._due: list[tuple[float, bytes]] = []  # may have entries that are outdated

    def __len__(self) -> int:
        return len(self._schedules)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._schedules.values())

    def get(self, name: bytes) -> Schedule | None:
        """The schedule with this name."""
        return self._schedules.get(name)

    def put(self, schedule: Schedule) -> None:
        """Add or replace a schedule, or note that its next run is due at another time."""
        self._schedules[schedule.name] = schedule
        self.wake_at(schedule, schedule.next)

    def wake_at(self, schedule: Schedule, wall: float) -> None:
        """Have ``take_due`` return a schedule at this time."""
        if not schedule.paused and wall < inf:
            heappush(self._due, (wall, schedule.name))
        if len(self._due) > 64 + 2 * len(self):
            self._due = [(each.next, each.name) for each in self if not each.paused]
            heapify(self._due)

    def pop(self, name: bytes) -> Schedule | None:
        """Forget a schedule."""
        return self._schedules.pop(name, None)

    def take_due(self, wall: float) -> Schedule | None:
        """A schedule whose next run is due; None if there is none."""
        while self._due and self._due[0][0] <= wall:
            schedule = self.get(heappop(self._due)[1])
            if schedule is not None and not schedule.paused and schedule.next <= wall:
                return schedule
        return None

    def next_due(self) -> float:
        """When ``take_due`` may have something next; inf: never."""
        return self._due[0][0] if self._due else inf


def make_schedule_job(schedule: Schedule, counts: Counts) -> BrokerJob:
    """The job that stands for a schedule in the store."""
    keeper = Function(SCHEDULE_NAME, set(), counts)
    job = BrokerJob(keeper, b"", json.dumps(schedule.pack()).encode(), NORMAL, True)
    job.number = schedule.number
    return job


def make_schedule_record(schedule: Schedule) -> Record:
    """How a schedule is stored."""
    workload = json.dumps(schedule.pack()).encode()
    return Record(schedule.number, SCHEDULE_NAME, b"", NORMAL, 0, b"", workload, 0)


def parse_schedule_record(record: Record | BrokerJob) -> Schedule:
    """The inverse of `make_schedule_record`. Raises ValueError."""
    schedule = unpack_schedule(json.loads(record.workload))
    schedule.number = record.number
    return schedule
