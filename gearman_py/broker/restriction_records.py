"""Pauses and limits in a durable queue: they outlive the server and go with its jobs.

Each change is stored as the record of a background job, whose function has a name that clients
cannot send (a NUL separates arguments). So it is committed, replayed and adopted as jobs are, by
every kind of store. The record before it is removed once it is stored.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from gearman_py.broker.key_limits import KeyLimit
from gearman_py.broker.pauses import Pause
from gearman_py.broker.rates import RateLimit
from gearman_py.broker.state import NORMAL, BrokerJob, Function
from gearman_py.store.base import Record

RECORD_NAME = b"\0restrictions"
SERVER = b"\0server"  # in place of a function's name: the pause of the whole server


def make_record(function: Function, number: int, pauses: Mapping[bytes, Pause]) -> BrokerJob:
    """The job that stands for the current restrictions of a function in the store."""
    facts = {
        "function": function.name.decode("latin-1"),
        "paused": function.paused,
        "pause": pauses.get(function.name),
        "max_running": function.max_running,
        "rate": str(function.rate or ""),
        "key_limit": str(function.key_limit or ""),
    }
    keeper = Function(RECORD_NAME, set(), function.counts)
    job = BrokerJob(keeper, b"", json.dumps(facts).encode(), NORMAL, True)
    job.number = number
    return job


class StoredRestrictions(NamedTuple):
    """The restrictions of a function, as they are stored."""

    function: bytes
    paused: bool
    pause: Pause
    max_running: int
    rate: RateLimit | None
    key_limit: KeyLimit[BrokerJob] | None

    @property
    def restricted(self) -> bool:
        """Whether the function is restricted at all."""
        return bool(self.paused or self.max_running or self.rate or self.key_limit)


def parse_record(record: Record | BrokerJob) -> StoredRestrictions:
    """What a record says. Raises ValueError."""
    facts = json.loads(record.workload)
    try:
        rate = RateLimit(facts["rate"]) if facts.get("rate") else None
        per_key = KeyLimit[BrokerJob].parse(facts["key_limit"]) if facts.get("key_limit") else None
        name, most = facts["function"].encode("latin-1"), max(0, int(facts["max_running"]))
        pause = Pause(*(facts.get("pause") or ()))  # earlier versions say nothing of it
        return StoredRestrictions(name, bool(facts["paused"]), pause, most, rate, per_key)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"record {record.number} does not describe a function") from error


class RestrictionRecords(dict[bytes, int]):
    """The number of the latest stored record of each function that has one."""

    def is_outdated(self, name: bytes, number: int) -> bool:
        """Whether a newer record is known; the numbers of those of other servers are below 0."""
        return self.get(name, number) > number

    def note_stored(self, job: BrokerJob) -> list[int]:
        """The record of ``make_record`` is stored; return the numbers of those no longer needed."""
        stored = parse_record(job)
        return self.replace(stored.function, job.number, restricted=stored.restricted)

    def replace(self, name: bytes, number: int, *, restricted: bool) -> list[int]:
        """Note the latest record of a function; return the numbers of those no longer needed."""
        known = self.pop(name, None)
        obsolete = [] if known is None else [known]
        if not restricted:
            return [*obsolete, number]
        self[name] = number
        return obsolete
