"""What must survive a restart, and what any store promises about it.

A store knows no jobs, only their records, and is told of changes in groups. When ``commit``
returns, the group outlives a power cut; when it raises StoreError, nothing of the group is
stored; when it raises InDoubt, that is not known yet; when it raises UnknownOutcome, it cannot be
found out, and the server must stop.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

SERIES_BITS = 52  # of a job's number; the microseconds since 1970 fit below them until 2112


def first_number(series: int) -> int:
    """What a run's job numbers begin at.

    Microseconds outrun any number that an earlier run gave out. The series keeps apart those of
    runs that begin at the same time.
    """
    return series << SERIES_BITS | time.time_ns() // 1000


def lease_clock() -> float:
    """Seconds, which leases are counted in: also those for which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Record(NamedTuple):
    """A background job as it is stored, under its number: what its handle ends in.

    ``due`` is when an epoch job is to run (seconds since 1970; 0: at once). ``deliveries``:
    how often it was given to a worker without having ended.
    """

    number: int
    function: bytes
    unique: bytes
    priority: int
    due: int
    reducer: bytes
    workload: bytes
    deliveries: int


def is_sound(record: Record) -> bool:
    """Whether a job can be made of it: other programs may have written to the database."""
    return record.number >= 0 and record.priority in (0, 1, 2) and record.deliveries >= 0


class Adopted(NamedTuple):
    """A job of another server; ``handle``: what it is known by, if not by its number here."""

    handle: bytes
    record: Record


class Changes(NamedTuple):
    """What is to become durable together. ``delivered``: by number, the new count."""

    added: list[Record]
    delivered: dict[int, int]
    removed: list[int]


class StoreError(Exception):
    """The store cannot do it now, and has not done a part of it; the message is for a person.

    ``brief`` is the same for a peer, who is not to learn of files. ``unreachable``: to ask for less
    would not help.
    """

    unreachable = False

    def __init__(self, message: str, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


class InDoubt(StoreError):
    """It may or may not be stored; the next commit that succeeds sees to it that it is not."""

    unreachable = True


class UnknownOutcome(StoreError):
    """It may or may not be stored: the disk failed to say.

    To try again would prove nothing, as the kernel may have dropped what it could not write
    (PostgreSQL's lesson of 2018). Only what a new start reads back is true.
    """


class Store(Protocol):
    """Where records are kept. One thread at a time may use it.

    ``series``: the upper bits of this run's job numbers (see ``first_number``).
    ``lease``: until when, by ``lease_clock``, the jobs are this server's alone (inf: always); each
    commit extends it. ``beat``: seconds without a commit after which one is due (None: never).
    """

    @property
    def series(self) -> int: ...

    @property
    def lease(self) -> float: ...

    @property
    def beat(self) -> float | None: ...

    def replay(self) -> Iterator[Record]:
        """All records, by number; those that cannot be read are set aside, and logged."""

    def commit(self, changes: Changes) -> None:
        """Make the changes durable, all or none; raises StoreError (see above)."""

    def tidy(self) -> None:
        """Do what is due between commits and can wait; raises UnknownOutcome."""

    def adopt(self) -> list[Adopted]:
        """Some of the jobs of other servers that are gone: they are this one's now."""

    def close(self) -> None:
        """Let go of it, so that another server may have it."""
