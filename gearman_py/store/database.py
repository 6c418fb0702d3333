"""The interface of a database that job servers share (see gearman_py.store.shared)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gearman_py.store.base import Record, StoreError
from gearman_py.store.weakness import Weakness

BRIEF = "the queue's database is out of reach"

# Bytes of jobs after which a read ends: the database is to answer within seconds, and this server
# is to show in time that it is alive.
READ_BYTES = 4 * 2**20

NO_KEEPER = 0  # of a shelf whose entry was deleted; not the number of any shelf

Place = tuple[int, int]
"""The place of a job: a shelf and a number there."""


class Shelf(NamedTuple):
    """The jobs that were submitted to one run. Their handles begin with ``prefix``.

    ``keeper`` is the shelf of the run that owns them now, which is this one at first. ``beats`` is
    the number of the last beat; ``ended``: the run was stopped properly.
    """

    number: int
    prefix: bytes
    keeper: int
    beats: int
    ended: bool

    @property
    def name(self) -> str:
        """The prefix, for the log."""
        return self.prefix.decode(errors="backslashreplace")


class Beat(NamedTuple):
    """A sign of life of the run with this shelf: the number of the previous one, and of this."""

    shelf: int
    before: int
    number: int


class Rows(NamedTuple):
    """A group of changes, each with its place, made in this order, all or none."""

    doubtful: Sequence[int]
    added: Sequence[Record]
    delivered: Sequence[tuple[Place, int]]
    removed: Sequence[Place]
    rewritten: Sequence[tuple[Place, Record]]


class Lost(StoreError):
    """The connection to the database is lost: the last request may have been done or not."""

    unreachable = True


class Database(Protocol):
    """What differs between databases. All methods raise Lost, and StoreError for a refusal."""

    password: str

    def connect(self) -> None:
        """Connect."""

    def find_weaknesses(self) -> list[Weakness]:
        """Settings with which it may lose jobs that it has acknowledged."""

    def describe_login(self) -> str:
        """Which database it is, where, its version, the user, and whether TLS is used."""

    def describe_durability(self) -> str:
        """The settings that keep jobs."""

    def describe_room(self) -> tuple[str, bool]:
        """How much is in it and how much may be, and whether there is little room left."""

    def disconnect(self) -> None:
        """Close the connection, which may be lost."""

    def enrol_run(self, prefix: bytes) -> int:
        """Create a shelf for a new run; return its number."""

    def write_rows(self, beat: Beat, rows: Rows) -> bool:
        """Beat, and make the changes durable. False: nothing was done, as the beat does not fit.

        ``doubtful`` are numbers on the run's own shelf that may exist and are removed.
        """

    def list_shelves(self, numbers: Sequence[int] | None = None) -> list[Shelf]:
        """All shelves by number, or those of ``numbers`` that exist."""

    def take_shelves(self, beat: Beat, other: Shelf) -> bool:
        """Beat, and take over ``other`` and all shelves of its run, unless it has beaten since.

        The keeper of ``other`` must be itself, or a shelf that does not exist. False: nothing was
        done, as the beat does not fit.
        """

    def read_records(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        """The next records of a shelf, by number; an unreadable one is not sound.

        At most ``limit``, and no more after READ_BYTES.
        """

    def set_aside(self, shelf: int, numbers: Sequence[int]) -> str:
        """Move records out of the way of servers; return how to look at them."""

    def clear_shelf(self, shelf: int) -> None:
        """Remove an empty shelf."""

    def find_missing_entries(self) -> list[int]:
        """Numbers of shelves that have jobs, but are not among ``list_shelves``."""

    def restore_entry(self, shelf: int, prefix: bytes) -> None:
        """Create the entry of a shelf, with NO_KEEPER, unless there is one now."""

    def leave_shelf(self, mine: int) -> None:
        """Record that this run has ended."""
