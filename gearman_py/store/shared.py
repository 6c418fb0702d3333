"""One database for several job servers, which take over the jobs of servers that are gone.

Each run of a server has a shelf in the database with the jobs that were submitted to it. A shelf
has a keeper, at first the run itself. Each commit of a run is a sign of life (a beat, counted on
its shelf), and fails if another run is the keeper of its shelf. A run that has seen the count of
another unchanged for GRACE_TIME seconds becomes the keeper of all shelves of the other, in one step
that fails if the count has changed. So the database decides, and clocks of different hosts are
never compared: a run counts the seconds since it sent its last beat, and its successor those since
it saw that beat, which are fewer.

A run whose last beat is older than LEASE_TIME assigns no stored jobs until the next one has
arrived, and a run whose shelf was taken stops. Jobs are not moved when a shelf is taken: the new
keeper finds them where they are.

When a connection is lost, the last request may have been done, not done, or still be on its way.
So each group has a number, its beat, and is done only if the shelf still has the beat that the
sender saw. After a reconnect, the beat of the shelf tells whether the group was done; and once the
next group is done, a late arrival of the earlier one fails.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from gearman_py.store.base import (
    SERIES_BITS,
    Adopted,
    Changes,
    InDoubt,
    JobsTaken,
    Record,
    StoreError,
    UnknownOutcome,
    is_sound,
    lease_clock,
)
from gearman_py.store.database import NO_KEEPER, Beat, Database, Lost, Place, Rows, Shelf
from gearman_py.store.failure_detector import FailureDetector
from gearman_py.store.missing_entries import read_all_records, restore_entries
from gearman_py.store.weakness import Weakness, find_refusal

log = logging.getLogger("gearmand")

BEAT_INTERVAL = 1.0  # seconds between the beats of a run that has nothing to commit
LEASE_TIME = 5.0  # seconds after a beat in which no other run takes the jobs
GRACE_TIME = LEASE_TIME + 1.0  # seconds without a beat after which another run takes them
RECONNECT_TIMEOUT = LEASE_TIME  # seconds to reconnect before jobs are refused
RECONNECT_INTERVAL = 0.1  # seconds between two attempts
MISSING_INTERVAL = 10.0  # seconds between two searches for jobs without an entry
CHECK_INTERVAL = 2.0  # seconds between two checks of the settings of the database
WARN_INTERVAL = 10.0  # seconds
MANY_SERIES = 2**11 - 1  # upper bits of job numbers, which have 63 bits; 0 is not a shelf
BATCH = 2000  # records that are read at a time: queueing them takes 20 ms
NOTHING = Changes([], {}, [])
# Why a run must stop.
TAKEN = "for so long it did not reach the database that another server took over its jobs"
FORGOTTEN = "the database no longer has the records of this server: they were deleted or evicted"


class SharedStore:
    """A store in a database. ``prefix`` is the prefix of this server's handles.

    ``accept_loss``: bearable weaknesses of the database are only logged.
    Raises StoreError if the database cannot be used, or may lose jobs.
    """

    def __init__(self, database: Database, prefix: bytes, *, accept_loss: bool = False) -> None:
        self._database = database
        self._prefix = prefix
        self._accept_loss = accept_loss
        self._weaknesses: list[Weakness] = []
        self._refusal: StoreError | None = None  # why new jobs are refused
        self._checked = lease_clock()
        self._connected = True
        self._doubtful: list[int] = []  # refused, but perhaps stored
        self._foreign: dict[int, Place] = {}  # jobs that have different numbers here and there
        self._foreign_number = 0
        self._looked = lease_clock()  # for other runs
        self._searched = self._looked  # for jobs without an entry
        self._unread: list[Shelf] = []  # shelves that this run took over
        self._read_up_to: int | None = None
        self._counted = 0  # jobs on the shelf being read
        self._taken: list[tuple[int, str]] = []  # such counts that are still to be logged
        self._hindered = False  # the last search for jobs of other servers failed ...
        self._warned = -WARN_INTERVAL  # ... and when that was logged
        database.connect()
        self._check_settings()
        if self._refusal:
            raise self._refusal
        begun = lease_clock()
        self._mine = self._enrol_run()
        self._detector = FailureDetector(self._mine, GRACE_TIME)
        self.lease = begun + LEASE_TIME
        self._beat = self._last_beat = 0  # in the database, and sent
        self._known = {self._mine}  # shelves that this run keeps
        self.series = self._mine % MANY_SERIES + 1
        # By series, the shelf whose jobs have the same numbers here and there. Shelves with the
        # same prefix have different series, except those of earlier versions.
        self._home = {self.series: self._mine}

    def _enrol_run(self) -> int:
        return self._database.enrol_run(self._prefix)

    @property
    def reading(self) -> bool:
        return bool(self._unread) and not self._hindered

    @property
    def beat(self) -> float:
        return 0 if self.reading else BEAT_INTERVAL

    def replay(self) -> Iterator[Record]:
        """Nothing: jobs of the previous run are adopted, at once if it has ended."""
        restore_entries(self._database, self._prefix)
        self._take_over(shelf for shelf in self._other_runs() if self._is_predecessor(shelf))
        return iter(())

    def all_records(self) -> Iterator[Record]:
        return read_all_records(self._database, self._prefix, BATCH)

    def commit(self, changes: Changes) -> None:
        """Make the changes durable; a lost connection may take RECONNECT_TIMEOUT seconds."""
        if changes.added and self._refusal:
            raise self._refusal
        rows = Rows(
            self._doubtful,
            changes.added,
            [(self._find_place(number), count) for number, count in changes.delivered.items()],
            [self._find_place(number) for number in changes.removed],
            [(self._find_place(record.number), record) for record in changes.rewritten],
        )
        self.lease = self._write_rows(rows) + LEASE_TIME
        self._doubtful = []
        for number in changes.removed:
            self._foreign.pop(number, None)

    def _write_rows(self, rows: Rows) -> float:
        """Make the changes durable; return when the group that was done had been sent."""
        until = time.monotonic() + RECONNECT_TIMEOUT
        number = self._next_beat()
        unanswered: float | None = None  # when it was first sent without getting an answer
        while True:
            sent = None
            try:
                self._connect()
                if unanswered is not None and self._beat == number:
                    return unanswered
                sent = lease_clock()
                if self._database.write_rows(Beat(self._mine, self._beat, number), rows):
                    self._beat = number
                    return sent
                self._find_beat()
            except UnknownOutcome:
                raise
            except StoreError as error:
                if isinstance(error, Lost):
                    self._disconnect()
                    unanswered = unanswered or sent
                    if time.monotonic() < until:
                        log.debug("%s: trying again", error)
                        time.sleep(RECONNECT_INTERVAL)
                        continue
                if unanswered is None:
                    raise
                self._doubtful = [*self._doubtful, *(record.number for record in rows.added)]
                raise InDoubt(str(error), error.brief) from error

    def _next_beat(self) -> int:
        self._last_beat += 1
        return self._last_beat

    def tidy(self) -> None:
        """Check the settings of the database from time to time."""
        if self._connected and lease_clock() - self._checked > CHECK_INTERVAL:
            try:
                self._check_settings()
            except Lost:
                self._disconnect()
            except StoreError as error:
                log.debug("%s: cannot check the settings of the database", error)

    def _check_settings(self) -> None:
        self._checked = lease_clock()
        known, self._weaknesses = self._weaknesses, self._database.find_weaknesses()
        self._refusal = find_refusal(self._weaknesses, accept_loss=self._accept_loss)
        for weakness in self._weaknesses:
            if weakness.bearable and self._accept_loss and weakness not in known:
                log.warning("%s (jobs are stored nevertheless: --accept-loss)", weakness.text)

    def adopt(self) -> list[Adopted]:
        """Jobs of runs that are gone, taken over by this one: at most BATCH."""
        while self._taken:  # these jobs were returned before, and are queued by now
            log.warning("took over %d jobs of %s, which is gone", *self._taken.pop())
        if not self._connected:  # the next commit waits for it
            return []
        try:
            if self.lease - lease_clock() < LEASE_TIME - BEAT_INTERVAL:
                self.commit(NOTHING)
            if not self._unread:
                self._look_for_dead_runs()
            adopted = self._read_shelves()
        except UnknownOutcome:
            raise
        except Lost:
            self._disconnect()
            return []
        except StoreError as error:
            self._note_hindrance(error)
            return []
        self._hindered = False
        return adopted

    def close(self) -> None:
        try:
            if self._connected:
                self._database.leave_shelf(self._mine)
        except StoreError as error:
            log.warning("%s: others learn in %g s that this server has ended", error, GRACE_TIME)
        self._disconnect()

    def _note_hindrance(self, error: StoreError) -> None:
        self._hindered = True
        if self._unread and self._read_up_to is None:  # other servers may be in a better state
            self._unread.append(self._unread.pop(0))
        if lease_clock() - self._warned > WARN_INTERVAL:
            self._warned = lease_clock()
            log.error("%s: cannot look for jobs of other servers", error)

    def _look_for_dead_runs(self) -> None:
        """Take over from runs that have not beaten for GRACE_TIME seconds.

        That must have been observed without a gap: when the database was out of reach, it may
        have been so for all.
        """
        if (gap := lease_clock() - self._looked) < BEAT_INTERVAL:
            return
        asked = self._detector.choose(lease_clock())
        if asked is None and lease_clock() - self._searched > MISSING_INTERVAL:
            restore_entries(self._database, self._prefix)
            self._searched = lease_clock()
        runs = self._other_runs(asked)
        # Not earlier: a beat that is seen now may have been sent only now.
        self._looked = now = lease_clock()
        if gap >= 3 * BEAT_INTERVAL:
            self._detector.forget()
        due = self._detector.note(asked, runs, now)
        due |= self._known  # ours, but the entry was deleted
        self._take_over(run for run in runs if run.number in due or self._is_predecessor(run))

    def _other_runs(self, asked: Sequence[int] | None = None) -> list[Shelf]:
        """The shelves of other runs that have not been taken over, and ours if it is new.

        ``asked``: only these. Otherwise they include shelves whose keeper does not exist, as after
        a restore from a backup.
        """
        shelves = self._database.list_shelves(asked)
        new = [one for one in shelves if one.keeper == self._mine and one.number not in self._known]
        self._unread += new
        self._known.update(shelf.number for shelf in new)
        # A keeper that was not asked for may well exist.
        numbers = {one.keeper if asked else one.number for one in shelves}
        others = [one for one in shelves if one.number != self._mine]
        return [one for one in others if one.keeper == one.number or one.keeper not in numbers]

    def _is_predecessor(self, run: Shelf) -> bool:
        """Whether it is that of the previous run of this server."""
        return run.ended and run.prefix == self._prefix

    def _take_over(self, runs: Iterable[Shelf]) -> None:
        taken = list(runs)
        for run in taken:
            number = self._next_beat()
            if self._database.take_shelves(Beat(self._mine, self._beat, number), run):
                self._beat = number
            else:
                self._find_beat()
        if taken:
            self._other_runs()

    def _read_shelves(self) -> list[Adopted]:
        while self._unread:
            shelf = self._unread[0]
            records = self._database.read_records(shelf.number, self._read_up_to, BATCH)
            if records:
                self._read_up_to = records[-1].number
                if good := self._set_aside(shelf, records):
                    self._counted += len(good)
                    return list(self._renumber_jobs(shelf, good))
                continue
            if not self._counted:
                self._database.clear_shelf(shelf.number)
            elif not self._is_predecessor(shelf):
                self._taken.append((self._counted, shelf.name))
            self._unread.pop(0)
            self._read_up_to, self._counted = None, 0
        return []

    def _set_aside(self, shelf: Shelf, records: Sequence[Record]) -> list[Record]:
        """The sound records; the others are moved away."""
        bad = [record.number for record in records if not is_sound(record)]
        if bad:
            try:
                where = self._database.set_aside(shelf.number, bad)
            except StoreError as error:  # the next reader finds them again
                where = str(error)
                if isinstance(error, Lost):
                    self._disconnect()
            message = "%d jobs of %s are damaged and will not run; look at them: %s"
            log.error(message, len(bad), shelf.name, where)
        return [record for record in records if is_sound(record)]

    def _renumber_jobs(self, shelf: Shelf, records: Iterable[Record]) -> Iterator[Adopted]:
        """The records with numbers of this server: below 0 if those of the shelf are in use."""
        for record in records:
            series, ours = record.number >> SERIES_BITS, shelf.prefix == self._prefix
            if ours and self._home.setdefault(series, shelf.number) == shelf.number:
                yield Adopted(b"", record)
            else:
                self._foreign_number = number = self._foreign_number - 1
                self._foreign[number] = (shelf.number, record.number)
                handle = b"%b:%d" % (shelf.prefix, record.number)
                yield Adopted(handle, record._replace(number=number))

    def _find_place(self, number: int) -> Place:
        if number < 0:
            return self._foreign[number]
        return self._home[number >> SERIES_BITS], number

    def _connect(self) -> None:
        if not self._connected:
            self._database.connect()
            self._connected = True
            self._find_beat()
            self._check_settings()

    def _find_beat(self) -> None:
        """Read the beat of this run from the database. Raises JobsTaken after a takeover."""
        mine = next(iter(self._database.list_shelves([self._mine])), None)
        if mine is not None and mine.keeper == self._mine:
            self._beat = mine.beats
            return
        # Who takes over jobs removes the entry when none is left.
        taken = lease_clock() > self.lease if mine is None else mine.keeper != NO_KEEPER
        raise JobsTaken(TAKEN if taken else FORGOTTEN)

    def _disconnect(self) -> None:
        self._connected = False
        self._database.disconnect()
