"""Group commit: a thread stores the changes that the broker has collected, so that the event
loop never waits for a disk.

While a group is being stored, the next one accumulates: the slower the disk, the larger the groups.
A group is bounded in bytes, and has jobs of each peer, so that no peer waits for all of another's.
The thread takes the next one by itself as long as there is one that peers wait for: getting it from
the event loop took as long as storing it (measured). Changes that no peer waits for (the removal of
jobs that have ended) are stored with the next group, or alone after a moment.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from queue import Empty, SimpleQueue

from gearman_py.broker.broker import Broker
from gearman_py.broker.counts import NOT_STORED, Durations
from gearman_py.broker.pending_changes import CommitGroup
from gearman_py.broker.queues import Queues
from gearman_py.broker.state import Peer
from gearman_py.broker.stored_jobs import restore_record
from gearman_py.sdnotify import notify
from gearman_py.server.counts import SHORT_BOUNDS
from gearman_py.store.base import (
    Adopted,
    Changes,
    InDoubt,
    Store,
    StoreError,
    UnknownOutcome,
    lease_clock,
)

log = logging.getLogger("gearmand")

# Seconds after which changes that no peer waits for are stored alone: jobs that ended in that time
# run again after a crash.
STORE_DELAY = 0.01
# Seconds until the same changes are tried again after the store failed.
RETRY_INTERVAL = 0.5
# How many records are read before systemd is asked for more time, and for how much (microseconds):
# reading a queue may take longer than a start may take.
RECORDS_PER_NOTIFICATION = 100_000
MORE_TIME = 60_000_000
WARN_INTERVAL = 10.0  # seconds
REFUSAL_TIME = 30.0  # seconds after the last job was refused, of a disk that is full
HOLD_MARGIN = 1.5  # seconds of a lease that are left to go on storing
MAX_REASONS = 10  # why jobs are refused that are logged at once, until jobs are stored again
# Seconds after which the thread gets the interpreter while the event loop is busy.
SWITCH_INTERVAL = 0.0005
# Stored when there are no changes, to show that this server is alive.
BEAT = CommitGroup([], Changes([], {}, []))


def replay_store(store: Store, queues: Queues) -> None:
    """Queue the jobs of the previous run. Raises StoreError."""
    begun, wall = time.monotonic(), time.time()
    for number, (handle, record) in enumerate(stored_jobs(store)):
        if not number % RECORDS_PER_NOTIFICATION:
            notify(f"STATUS=re-queued {number} jobs", f"EXTEND_TIMEOUT_USEC={MORE_TIME}")
        restore_record(queues, record, wall, handle, begun)
    queues.lease = store.lease
    if queues.jobs:
        seconds = time.monotonic() - begun
        log.info(
            "re-queued %s from the previous run (%.1f s)", _format_count(len(queues.jobs)), seconds
        )


def _format_count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def stored_jobs(store: Store) -> Iterator[Adopted]:
    """The jobs of the previous run. Raises StoreError."""
    for record in store.replay():
        yield Adopted(b"", record)
    while adopted := store.adopt():
        yield from adopted


class StoreWriter:
    """Stores groups of changes, one after the other.

    ``flush`` is called when peers are owed the answers of a group, ``hang_up`` with a peer that
    cannot be answered, and ``fail`` when the store is ``broken``: it can no longer be trusted, and
    the server must stop. Any unexpected error also makes it broken.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        flush: Callable[[], None],
        hang_up: Callable[[Peer], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.store = store
        self._broker = broker
        self._changes = broker.queues.changes
        self._changes.guard = threading.RLock()
        self._flush = flush
        self._hang_up = hang_up
        self._on_failure = fail
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[CommitGroup | None] = SimpleQueue()
        self._busy = False  # the thread stores something, or has not yet reported that it is idle
        self._rests = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._noted = 0.0  # when the store was last told which jobs were assigned
        self.commits = Durations(SHORT_BOUNDS)  # groups that were stored
        self.stored = self.failures = 0  # jobs, and groups that could not be stored
        self.broken = False
        self._failing = False
        self.refusing = False  # refusal of background jobs, as logged ...
        self.why = ""  # ... in a few words ...
        self._refused_before = 0  # ... and how many there were before
        self._refused = 0.0  # when it last refused jobs
        self._reachable = False  # it refused jobs, but may accept other changes
        self._warned = -WARN_INTERVAL
        self._reasons: set[str] = set()  # why jobs are refused, as it was logged
        self._held = False  # the thread is to end, or has
        self._reading = broker.queues.adopted.reading  # as the event loop was told
        self.release()
        sys.setswitchinterval(SWITCH_INTERVAL)

    async def hold(self) -> None:
        """End the thread after what it does just now; changes accumulate until `release`."""
        self._held = True
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def seems_refusing(self) -> bool:
        """Whether the next job would be refused, as far as can be known without one.

        Only a job shows that a disk has room again, and whoever sends them may ask this first.
        """
        lately = self._loop.time() - self._refused < REFUSAL_TIME
        return self.refusing and (lately or not self._reachable)

    @property
    def hold_time(self) -> float:
        """Seconds in which to `release` it: later, another server takes the jobs over."""
        return round(max(0.1, self.store.lease - lease_clock() - HOLD_MARGIN), 1)

    def release(self) -> None:
        """Go on storing."""
        self._held = False
        self._thread = threading.Thread(target=self._run_thread, name="store", daemon=True)
        self._thread.start()

    def store_now(self) -> None:
        """Store all changes in this thread, while `hold` is in effect; peers wait."""
        while not self.broken and not self._changes.empty:
            group = self._take_changes()
            begun = time.monotonic()
            try:
                self.store.commit(group.changes)
            except UnknownOutcome as error:
                return self.fail(error)
            except StoreError as error:
                return self._refuse_group(group, error)
            self._acknowledge_group(group, True, time.monotonic() - begun)
        return None

    def store_next(self) -> None:
        """Have the next group stored, if there is one and the thread is idle."""
        if self._busy or self._held:
            return
        if self._changes.awaited:
            self._begin_group()
        elif self._timer is None and not self._changes.empty:
            self._timer = self._loop.call_later(
                RETRY_INTERVAL if self._failing else STORE_DELAY, self._begin_group
            )

    async def finish(self) -> None:
        """Store the remaining changes, if possible, and close the store."""
        while not self.broken and (self._busy or not (self._changes.empty or self._failing)):
            self._rests.clear()
            self._begin_group()
            await self._rests.wait()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)
        if not self.broken:
            self.store.close()

    def _begin_group(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._busy and not self.broken and not self._held:
            self._busy = True
            self._groups.put(self._take_changes())

    def _take_changes(self) -> CommitGroup:
        now = self._loop.time()
        deliveries = now - self._noted >= STORE_DELAY or not self._changes.awaited
        if deliveries:
            self._noted = now
        return self._changes.take(deliveries=deliveries)

    def _run_thread(self) -> None:
        """The thread, which alone uses the store."""
        try:
            self._store_groups()
        except UnknownOutcome as error:
            self._call_in_loop(self.fail, error)
        except Exception as error:
            log.exception("the store")
            self._call_in_loop(self.fail, error)

    def _store_groups(self) -> None:
        following = None
        while (group := following or self._next_group()) is not None:
            following = None
            begun = time.monotonic()
            try:
                self.store.commit(group.changes)
            except UnknownOutcome:
                raise
            except StoreError as error:
                if (group.jobs or group.changes.rewritten) and not error.unreachable:
                    group = self._without_jobs(group)
                self._call_in_loop(self._refuse_group, group, error)
            else:
                seconds = time.monotonic() - begun
                if self._changes.awaited and group is not BEAT and not self._held:
                    following = self._take_changes()
                self._call_in_loop(self._acknowledge_group, group, following is None, seconds)
            self.store.tidy()
            adopted = self.store.adopt()
            if adopted or self._reading != self.store.reading:
                self._reading = self.store.reading
                self._call_in_loop(self._adopt_jobs, adopted, self._reading)

    def _without_jobs(self, group: CommitGroup) -> CommitGroup:
        """Store what makes room, when there may be none for jobs; return what is to be refused."""
        changes = group.changes
        if not (changes.removed or changes.delivered):
            return group
        try:
            self.store.commit(changes._replace(added=[], rewritten=[]))
        except UnknownOutcome:
            raise
        except StoreError:
            return group
        return CommitGroup(group.jobs, Changes(changes.added, {}, [], changes.rewritten))

    def _next_group(self) -> CommitGroup | None:
        try:
            return self._groups.get(timeout=self.store.beat)
        except Empty:
            return BEAT

    def _call_in_loop(self, what: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(self._call_or_break, what, *arguments)

    def _call_or_break(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            what(*arguments)
        except Exception as error:
            log.exception("what the store says")
            self.fail(error)

    def _acknowledge_group(self, group: CommitGroup, rests: bool, seconds: float) -> None:
        self._failing = False
        self._changes.refusal = b""
        if group is not BEAT:
            self.commits.append(seconds)
            self.stored += len(group.jobs)
        if self.refusing and (group.jobs or not self._reachable):
            refused = self._count_refused() - self._refused_before
            log.warning("storing jobs again; refused %s meanwhile", _format_count(refused))
            self.refusing = self._reachable = False
            self._reasons.clear()
        if rests and group is not BEAT:
            self._set_idle()
            self.store_next()  # the thread goes on while the answers to this group are written
        now = self._loop.time()
        self._broker.queues.extend(self.store.lease, now)
        self._broker.stored(group, now)
        self._flush()

    def _refuse_group(self, group: CommitGroup, error: StoreError) -> None:
        if group is not BEAT:
            self._set_idle()
        if not self.refusing:
            self._refused_before = self._count_refused()
        self._failing = self.refusing = True
        self.why = error.brief
        if error.unreachable:  # the next beat that arrives ends this: no job has to find it out
            self._changes.refusal = f"the job could not be stored: {error.brief}".encode()
        self.failures += group is not BEAT
        now = self._loop.time()
        if group.jobs:
            self._reachable, self._refused = not error.unreachable, now
        is_new = str(error) not in self._reasons and len(self._reasons) < MAX_REASONS
        if is_new or now - self._warned > WARN_INTERVAL:
            self._warned = now
            self._reasons.add(str(error))
            log.error("%s: refusing background jobs until that is over", error)
        if isinstance(error, InDoubt):
            for peer in self._broker.awaiting(group):
                self._hang_up(peer)
        self._broker.refused(group, error.brief, now)
        if error.unreachable and self._changes.awaited:  # each group would wait as long again
            waiting = self._changes.take(deliveries=False, most=inf)
            self._broker.refused(waiting, error.brief, now)
        self._flush()

    def _count_refused(self) -> int:
        return self._broker.queues.counts.refusals[NOT_STORED]

    def _set_idle(self) -> None:
        self._busy = False
        self._rests.set()

    def _adopt_jobs(self, adopted: list[Adopted], reading: bool) -> None:
        """``reading``: there are more."""
        queues, now, wall = self._broker.queues, self._loop.time(), time.time()
        queues.adopted.reading = True
        for handle, record in adopted:
            restore_record(queues, record, wall, handle, now)
        queues.adopted.reading = reading
        if queues.adopted:
            queues.next_event = -inf
        self._flush()

    def fail(self, error: Exception) -> None:
        """Answer no peer: only the next start will show what is stored of the last group."""
        reason = str(error) if isinstance(error, StoreError) else f"the store failed: {error!r}"
        log.critical("%s: stopping; the next start reads what was stored", reason)
        self.broken = True
        self.why = reason
        self._rests.set()
        self._changes.refusal = f"the job could not be stored: {reason}".encode()
        self._on_failure(error)
