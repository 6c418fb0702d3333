"""What must survive a restart, and what any store promises about it.

A store knows no jobs, only their records, and is told of changes in groups. When ``commit``
returns, the group outlives a power cut; when it raises StoreError, nothing of the group is
stored; when it raises UnknownOutcome, nobody can say, and the server must stop.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol


def clock() -> float:
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

    ``brief`` is the same for a peer, who is not to learn of files.
    """

    def __init__(self, message: str, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


class UnknownOutcome(StoreError):
    """It may or may not be stored: the disk failed to say.

    To try again would prove nothing, as the kernel may have dropped what it could not write
    (PostgreSQL's lesson of 2018). Only what a new start reads back is true.
    """


class Store(Protocol):
    """Where records are kept. One thread at a time may use it.

    ``lease``: until when, by ``clock``, the jobs are this server's alone (inf: for ever); each
    commit puts it off. ``beat``: a commit is due after so many seconds without one (None: never).
    """

    @property
    def lease(self) -> float: ...

    @property
    def beat(self) -> float | None: ...

    def replay(self) -> Iterator[Record]:
        """All records, by number; those that cannot be read are set aside, and logged."""

    def commit(self, changes: Changes) -> None:
        """Make the changes durable, all or none; raises StoreError, UnknownOutcome."""

    def tidy(self) -> None:
        """Do what is due between commits and can wait; raises UnknownOutcome."""

    def adopt(self) -> list[Adopted]:
        """Some of the jobs of other servers that are gone: they are this one's now."""

    def close(self) -> None:
        """Let go of it, so that another server may have it."""
