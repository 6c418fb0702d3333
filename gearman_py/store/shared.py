"""One database for several job servers: whose jobs are whose, and what becomes of a dead one's.

Each run of a server has a shelf in the database, which holds the jobs that it was submitted, and
a keeper: at first the run itself. Every commit of a run says "I am alive" (a beat, counted on its
shelf) and fails when somebody else keeps its shelf. Who has seen the count of another stand
still for GRACE seconds becomes the keeper of all that one's shelves, in one step that fails when
the count has moved. So it is the database that decides, and no clock of one host is compared
with another's: a run counts the seconds since its last beat left, its successor those since it
saw that beat, which are fewer.

A run whose last beat is older than LEASE gives out no stored job until the next has arrived; one
whose shelf was taken stops. Jobs are not moved when a shelf is taken: whoever keeps them finds
them where they are.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from gearman_py.store.base import Adopted, Changes, Record, StoreError, UnknownOutcome, clock

log = logging.getLogger("gearmand")

BEAT = 1.0  # seconds between two beats of a run that has nothing to commit
LEASE = 5.0  # seconds from a beat for which nobody else has the jobs
GRACE = LEASE + 1.0  # seconds without a beat until another may have them
WAIT = LEASE  # seconds for a lost connection to come back before jobs are refused
PAUSE = 0.1  # seconds between two tries
BATCH = 2000  # records read at a time: the event loop takes so many in 20 ms
BRIEF = "the queue's database is out of reach"
NOTHING = Changes([], {}, [])

Place = tuple[int, int]
"""Where a job is: its shelf, and its number there."""


class Shelf(NamedTuple):
    """The jobs that one run was submitted. ``prefix``: what their handles begin with.

    ``keeper`` is the shelf of the run that has them now: of this very run at first. ``beats``
    are that run's so far; ``ended``: it was told to stop, and did.
    """

    number: int
    prefix: bytes
    keeper: int
    beats: int
    ended: bool


class Rows(NamedTuple):
    """A group of changes, each with its place; to be made in this order, all or none."""

    doubtful: Sequence[int]
    added: Sequence[Record]
    delivered: Sequence[tuple[Place, int]]
    removed: Sequence[Place]


class Lost(StoreError):
    """The connection to the database is gone: what was asked last may be done or not."""


class Database(Protocol):
    """What differs between databases. All of it raises Lost, and StoreError when it was refused.

    ``mine`` is the shelf of the run that speaks.
    """

    def connect(self) -> None:
        """Connect, and see that it keeps what it says that it keeps."""

    def disconnect(self) -> None:
        """Let the connection go; a lost one too."""

    def enrol(self, prefix: bytes) -> int:
        """Make a shelf for a new run; its number."""

    def write(self, mine: int, rows: Rows) -> bool:
        """Beat, and make the changes durable; False, and nothing done: ``mine`` was taken.

        ``doubtful`` are numbers on ``mine`` that may be there, and are to go.
        """

    def shelves(self) -> list[Shelf]:
        """All there are."""

    def take(self, mine: int, other: Shelf) -> None:
        """Keep all shelves that the run of this one keeps.

        Nothing is done when it has beaten since, or when ``mine`` was taken.
        """

    def read(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        """The records with the next numbers on a shelf."""

    def clear(self, shelf: int) -> None:
        """Forget an empty shelf."""

    def leave(self, mine: int) -> None:
        """Say that this run has ended."""


class SharedStore:
    """A store in a database; ``prefix`` is what this server's handles begin with.

    Raises StoreError when the database cannot be had.
    """

    def __init__(self, database: Database, prefix: bytes) -> None:
        self._database = database
        self._prefix = prefix
        self._connected = True
        self._doubtful: list[int] = []  # refused, and perhaps stored all the same
        self._foreign: dict[int, Place] = {}  # jobs that have other numbers here than there
        self._foreign_number = 0
        self._seen: dict[int, tuple[int, float]] = {}  # of other runs: their beats, since when
        self._looked = clock()  # for other runs
        self._unread: list[Shelf] = []  # shelves that this run took over
        self._read_up_to: int | None = None
        self._counted = 0  # jobs on the shelf that is being read
        database.connect()
        begun = clock()
        self._mine = database.enrol(prefix)
        self.lease = begun + LEASE
        self._known = {self._mine}  # shelves that this run keeps
        self._home = [self._mine]  # those with handles of its own prefix

    @property
    def beat(self) -> float:
        """Seconds until the store wants to hear of its owner again."""
        return 0 if self._unread else BEAT

    def replay(self) -> Iterator[Record]:
        """Nothing; what the run before this one left is adopted at once if it has ended."""
        self._take(shelf for shelf in self._runs() if self._left(shelf))
        return iter(())

    def commit(self, changes: Changes) -> None:
        """Make the changes durable; a lost connection is waited for, WAIT seconds."""
        rows = Rows(
            self._doubtful,
            changes.added,
            [
                (place, count)
                for number, count in changes.delivered.items()
                for place in self._places(number)
            ],
            [place for number in changes.removed for place in self._places(number)],
        )
        doubtful = [*self._doubtful, *(record.number for record in changes.added)]
        until = time.monotonic() + WAIT
        while True:
            try:
                self._connect()
                begun = clock()
                kept = self._database.write(self._mine, rows)
            except Lost as error:
                self._disconnect()
                self._doubtful = doubtful
                rows = rows._replace(doubtful=doubtful)
                if time.monotonic() > until:
                    raise
                log.debug("%s: trying again", error)
                time.sleep(PAUSE)
            else:
                break
        if not kept:
            raise UnknownOutcome(
                "this server was out of touch with the queue's database for so long that another "
                "one took over its jobs"
            )
        self.lease = begun + LEASE
        self._doubtful = []
        for number in changes.removed:
            self._foreign.pop(number, None)

    def tidy(self) -> None:
        """Nothing: databases do that themselves."""

    def adopt(self) -> list[Adopted]:
        """Jobs of runs that are gone, and are this one's now: BATCH of them at most."""
        if not self._connected:  # the next commit waits for it
            return []
        try:
            if self.lease - clock() < LEASE - BEAT:
                self.commit(NOTHING)
            if not self._unread:
                self._look()
            return self._read()
        except UnknownOutcome:
            raise
        except Lost:
            self._disconnect()
        except StoreError as error:
            log.error("%s: jobs of other servers cannot be looked for", error)
        return []

    def close(self) -> None:
        try:
            if self._connected:
                self._database.leave(self._mine)
        except StoreError as error:
            log.warning("%s: others learn in %g s that this server has ended", error, GRACE)
        self._disconnect()

    def _look(self) -> None:
        """Take over from those that have not beaten for GRACE seconds.

        That must have been seen without a gap: when the database was out of reach, it was
        perhaps so for all.
        """
        if (gap := clock() - self._looked) < BEAT:
            return
        runs = self._runs()
        # Not earlier: a beat that is seen now may have left only now.
        self._looked = now = clock()
        seen = self._seen if gap < 3 * BEAT else {}
        self._seen = {}
        for run in runs:
            beats, since = seen.get(run.number, (-1, now))
            self._seen[run.number] = run.beats, since if beats == run.beats else now
        silent = {number for number, (_, since) in self._seen.items() if now - since > GRACE}
        self._take(run for run in runs if run.number in silent or self._left(run))

    def _runs(self) -> list[Shelf]:
        """The first shelves of all other runs that nobody has taken over; and ours, if new."""
        shelves = self._database.shelves()
        new = [one for one in shelves if one.keeper == self._mine and one.number not in self._known]
        self._unread += new
        self._known.update(shelf.number for shelf in new)
        return [one for one in shelves if one.keeper == one.number and one.number != self._mine]

    def _left(self, run: Shelf) -> bool:
        """Whether it was the one before this."""
        return run.ended and run.prefix == self._prefix

    def _take(self, runs: Iterable[Shelf]) -> None:
        taken = list(runs)
        for run in taken:
            self._database.take(self._mine, run)
        if taken:
            self._runs()

    def _read(self) -> list[Adopted]:
        while self._unread:
            shelf = self._unread[0]
            records = self._database.read(shelf.number, self._read_up_to, BATCH)
            if records:
                if self._read_up_to is None and shelf.prefix == self._prefix:
                    self._home.append(shelf.number)
                self._read_up_to = records[-1].number
                self._counted += len(records)
                return list(self._adopted(shelf, records))
            if self._read_up_to is None:
                self._database.clear(shelf.number)
            elif not self._left(shelf):
                name = shelf.prefix.decode(errors="backslashreplace")
                log.warning("took over %d jobs of %s, which is gone", self._counted, name)
            self._unread.pop(0)
            self._read_up_to = None
            self._counted = 0
        return []

    def _adopted(self, shelf: Shelf, records: Iterable[Record]) -> Iterator[Adopted]:
        """Records with numbers of this server, below 0 where the handles are of another."""
        for record in records:
            if shelf.prefix == self._prefix:
                yield Adopted(b"", record)
            else:
                self._foreign_number = number = self._foreign_number - 1
                self._foreign[number] = (shelf.number, record.number)
                handle = b"%b:%d" % (shelf.prefix, record.number)
                yield Adopted(handle, record._replace(number=number))

    def _places(self, number: int) -> list[Place]:
        if number < 0:
            return [self._foreign[number]]
        return [(shelf, number) for shelf in self._home]

    def _connect(self) -> None:
        if not self._connected:
            self._database.connect()
            self._connected = True

    def _disconnect(self) -> None:
        self._connected = False
        self._database.disconnect()
