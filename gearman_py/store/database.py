"""What a database has to do so that job servers can share it (see gearman_py.store.shared)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gearman_py.store.base import Record, StoreError

BRIEF = "the queue's database is out of reach"

Place = tuple[int, int]
"""Where a job is: its shelf, and its number there."""


class Shelf(NamedTuple):
    """The jobs that one run was submitted. ``prefix``: what their handles begin with.

    ``keeper`` is the shelf of the run that has them now: of this very run at first. ``beats``
    is the number of that run's last beat; ``ended``: it was told to stop, and did.
    """

    number: int
    prefix: bytes
    keeper: int
    beats: int
    ended: bool

    @property
    def name(self) -> str:
        """The prefix, for a log."""
        return self.prefix.decode(errors="backslashreplace")


class Beat(NamedTuple):
    """A sign of life of the run with this shelf: the number of its last one, and of this."""

    shelf: int
    before: int
    number: int


class Weakness(NamedTuple):
    """How a database is set so that it may lose jobs, and how that is cured.

    ``bearable``: it does so when its host or its process dies, and at no other time.
    """

    text: str
    bearable: bool


class Rows(NamedTuple):
    """A group of changes, each with its place; to be made in this order, all or none."""

    doubtful: Sequence[int]
    added: Sequence[Record]
    delivered: Sequence[tuple[Place, int]]
    removed: Sequence[Place]


class Lost(StoreError):
    """The connection to the database is gone: what was asked last may be done or not."""

    unreachable = True


class Database(Protocol):
    """What differs between databases. All of it raises Lost, and StoreError when it was refused."""

    def connect(self) -> None:
        """Connect."""

    def find_weaknesses(self) -> list[Weakness]:
        """Why it might lose what it says that it keeps."""

    def disconnect(self) -> None:
        """Let the connection go; a lost one too."""

    def enrol_run(self, prefix: bytes) -> int:
        """Make a shelf for a new run; its number."""

    def write_rows(self, beat: Beat, rows: Rows) -> bool:
        """Beat, and make the changes durable; False, and nothing done: the beat does not fit.

        ``doubtful`` are numbers on the run's own shelf that may be there, and are to go.
        """

    def list_shelves(self) -> list[Shelf]:
        """All there are."""

    def take_shelves(self, beat: Beat, other: Shelf) -> bool:
        """Beat, and keep ``other`` and all shelves that its run keeps, unless it has beaten since.

        Its keeper must be itself, or a shelf that does not exist. False, and nothing done: the beat
        does not fit.
        """

    def read_records(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        """The records with the next numbers on a shelf; one that cannot be read is not sound."""

    def set_aside(self, shelf: int, numbers: Sequence[int]) -> str:
        """Move records to where no server looks for jobs; how a person sees them there."""

    def clear_shelf(self, shelf: int) -> None:
        """Forget an empty shelf."""

    def leave_shelf(self, mine: int) -> None:
        """Say that this run has ended."""
