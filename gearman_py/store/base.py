"""The interface of a store, which keeps the records of background jobs.

Changes come in groups. When ``commit`` returns, the group survives a power cut. When it raises
StoreError, no part of the group is stored; InDoubt, this is not known yet; UnknownOutcome, it
cannot be found out, and the server must stop.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

SERIES_BITS = 52  # of a job number, above the microseconds since 1970, which fit until 2112


def first_number(series: int) -> int:
    """The first job number of a run.

    As it counts microseconds, it is above all numbers of earlier runs. Runs that begin at the same
    time have different series.
    """
    return series << SERIES_BITS | time.time_ns() // 1000


def lease_clock() -> float:
    """The clock of leases, in seconds, which also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Record(NamedTuple):
    """A background job as it is stored, under the number in which its handle ends.

    ``due`` is when an epoch job is to run (seconds since 1970; 0: at once). ``deliveries`` is how
    often it was assigned to a worker and did not end.
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
    """Whether it is a valid job: other programs may have written to the database.

    A NUL would end a name on the wire; only names of records that are not jobs begin with it.
    """
    integers = record.number, record.priority, record.due, record.deliveries
    texts = record.function, record.unique, record.reducer, record.workload
    if not all(isinstance(value, int) for value in integers):
        return False
    if not all(isinstance(value, bytes) for value in texts):  # as in a column that may be NULL
        return False
    names = b"".join((record.function[1:], record.unique, record.reducer))
    numbers = record.number >= 0 and record.priority in (0, 1, 2) and record.deliveries >= 0
    return numbers and b"\0" not in names and record.function not in (b"", b"\0")


class Adopted(NamedTuple):
    """A job of another server, with its handle if that does not end in its number here."""

    handle: bytes
    record: Record


class Changes(NamedTuple):
    """Changes that become durable together, in this order.

    ``delivered`` has new counts by number. ``rewritten`` are records that take the place of those
    with their numbers, if there are such.
    """

    added: list[Record]
    delivered: dict[int, int]
    removed: list[int]
    rewritten: Sequence[Record] = ()


class StoreError(Exception):
    """The store failed and has not done any part of it. The message is for operators.

    ``brief`` is a message for peers, without names of files. ``unreachable``: a smaller group would
    fail too.
    """

    unreachable = False

    def __init__(self, message: str, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


class InDoubt(StoreError):
    """It may be stored; the next successful commit makes sure that it is not."""

    unreachable = True


class UnknownOutcome(StoreError):
    """It may be stored: the disk reported an error.

    Trying again would prove nothing, as the kernel may have dropped what it could not write (see
    PostgreSQL's "fsyncgate" of 2018). Only a restart shows what is stored.
    """


class JobsTaken(UnknownOutcome):
    """Another server has the stored jobs by now: this one can go on only with those in memory."""


class Store(Protocol):
    """Keeps records. One thread at a time may use it.

    ``series`` is the upper bits of the job numbers of this run (see ``first_number``). The jobs
    belong to this server alone until ``lease``, by ``lease_clock`` (inf: always), which each commit
    extends. ``beat`` is the seconds without a commit after which one is due (None: never).
    """

    @property
    def series(self) -> int: ...

    @property
    def lease(self) -> float: ...

    @property
    def reading(self) -> bool:
        """Whether more is to be adopted: `adopt` is to be called again soon."""

    @property
    def beat(self) -> float | None:
        """Seconds after which the next beat is due."""

    def replay(self) -> Iterator[Record]:
        """All records, by number; unreadable ones are set aside and logged."""

    def all_records(self) -> Iterator[Record]:
        """All records, also those of other servers that share it. Raises StoreError.

        Nothing is taken over. A caller that takes long has to commit in time for its lease.
        """

    def commit(self, changes: Changes) -> None:
        """Make the changes durable, all or none. Raises StoreError and its subclasses."""

    def tidy(self) -> None:
        """Do maintenance between commits. Raises UnknownOutcome."""

    def adopt(self) -> list[Adopted]:
        """Take over some of the jobs of servers that are gone."""

    def pass_on(self) -> tuple[dict[str, Any], list[int]]:
        """Release it for one process that is to go on with it and no other, given these values and
        descriptors. Raises StoreError if that cannot be done, and then it is as before.
        """

    def take_back(self) -> None:
        """Go on after `pass_on`, as the other process has ended. Raises StoreError."""

    def close(self) -> None:
        """Release it, so that another server can use it."""
