"""Large results against memory: which may come now, and how many jobs that bring them are begun.

A result stays in memory until its client has read it. When memory becomes scarce, a worker whose
result does not fit is not read from until clients have read others, and jobs of functions with
large results are given out only as there is room for these. So what clients do not read in time
waits where it is made: as a job that is not begun. Small results always pass.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Function, Peer

SHARE = 0.85  # of the limit of memory may be used when a result is let in ...
HOPELESS_SHARE = 1.1  # ... or this, when a client has not read for long: then it is closed ...
LEAST_SHARE = 1 / 8  # ... and so much of the limit results may take, whatever else takes memory
SMALL = 2**20  # a result up to this size passes those that wait, if there is room for it
# Seconds for which a worker waits: ours hear the end of a connection in 30 s without an answer ...
LONGEST_WAIT = 20.0
# ... or without a byte taken. One with more than the kernel holds for it (bytes) waits as long as
# clients read, and a little is read from it each TRICKLE_INTERVAL.
MOST_BUFFERED = 2**23
TRICKLE_INTERVAL = 5.0
PROGRESS_INTERVAL = 1.0  # between two looks at how much clients have read
STILL = 5.0  # a client that has read nothing for so long stands still
STANDSTILL = 90.0  # when a client has read nothing for so long, it is not waited for any longer


@dataclass(frozen=True)
class ComingResult:
    """A large result whose beginning was read. ``message``: changes with each of the worker's."""

    message: int
    size: int  # bytes
    job: BrokerJob | None


class Bringer(Protocol):
    """A connection whose peer may bring results, or have some to read."""

    peer: Peer
    transport: asyncio.Transport

    def coming_result(self) -> ComingResult | None: ...

    def partial_bytes(self) -> int: ...

    def unread_bytes(self) -> int: ...

    def pause_peer(self) -> None: ...

    def resume_peer(self) -> None: ...


class ResultBudget:
    """Which workers must wait with their results, and which functions are rationed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queues: Queues) -> None:
        self._now = loop.time
        self._queues = queues
        self.scarce = False
        self.waiting: dict[Bringer, float] = {}  # since when, or when a little was read
        self._since: dict[Bringer, float] = {}  # when their waiting began
        self._coming: dict[Bringer, ComingResult] = {}
        self._sizes: dict[Function, int] = {}  # of the last large result of a function
        self._room = 0  # bytes
        self._held = 0  # bytes of results in memory, and to come
        self._least = 0
        self._unread: dict[Peer, tuple[int, float]] = {}  # bytes, since when it is that much
        self._progress_at = self._looked_at = self._now()
        self._hopeless = False  # a worker has waited for long, and no client has read since
        self._overdue = False  # a client has read nothing for long

    def weigh(self, worker: Bringer) -> None:
        """The worker has begun a message: have it wait if that is a result that does not fit."""
        coming = worker.coming_result()
        if coming is None or self._coming.get(worker) == coming:
            return
        if coming.job is not None:
            self._learn_size(coming.job.function, coming.size)
        fits = self._fits(coming.size) and (coming.size <= SMALL or not self.waiting)
        if worker not in self.waiting and fits:
            self._let_in(worker, coming)
        else:
            now = self._now()
            self.waiting[worker] = now
            self._since.setdefault(worker, now)
            worker.pause_peer()

    def forget_peer(self, connection: Bringer) -> None:
        """A connection is gone."""
        self.waiting.pop(connection, None)
        self._since.pop(connection, None)
        self._coming.pop(connection, None)
        self._unread.pop(connection.peer, None)

    def stands_still(self, peer: Peer) -> bool:
        """Whether a client that has something to read has read nothing for a while."""
        _, since = self._unread.get(peer, (0, self._now()))
        return self._now() - since >= STILL

    def share_memory(self, used: int, limit: int, readers: Mapping[Peer, Bringer]) -> None:
        """Let in what fits, given the bytes that are used and may be, and those who read."""
        now = self._now()
        self.scarce = used > limit / 2
        if not self.scarce and not self.waiting and not self._queues.rations and not self._coming:
            self._hopeless = self._overdue = False
            return
        self._note_progress(readers, now)
        for worker, coming in list(self._coming.items()):
            if worker.coming_result() != coming:
                del self._coming[worker]
        # While a result is put together from what was read it takes twice its size.
        ahead = sum(
            2 * coming.size - worker.partial_bytes() for worker, coming in self._coming.items()
        )
        unread = sum(reader.unread_bytes() for reader in readers.values())
        share = HOPELESS_SHARE if self._hopeless or self._overdue else SHARE
        self._room = int(limit * share) - used - ahead
        self._least = int(limit * LEAST_SHARE)
        self._held = unread + sum(coming.size for coming in self._coming.values())
        self._let_in_waiting(now)
        self._ration_jobs(now)

    def _learn_size(self, function: Function, size: int) -> None:
        if function not in self._sizes:
            self._queues.ration(function, 0, self._now())
        self._sizes[function] = size

    def _fits(self, size: int) -> bool:
        least = self._least
        if (self._hopeless or self._overdue) and not self._coming:
            return True
        return 2 * size <= self._room or self._held + min(size, least) <= least + SMALL

    def _let_in(self, worker: Bringer, coming: ComingResult) -> None:
        self._coming[worker] = coming
        self._room -= 2 * coming.size
        self._held += coming.size

    def _note_progress(self, readers: Mapping[Peer, Bringer], now: float) -> None:
        if now - self._looked_at < PROGRESS_INTERVAL:
            return
        self._looked_at = now
        before, self._unread = self._unread, {}
        progress = not readers
        for peer, reader in readers.items():
            unread = reader.unread_bytes()
            most, since = before.pop(peer, (unread, now))
            self._unread[peer] = unread, now if unread < most else since
            progress = progress or unread < most
        if progress or any(most >= SMALL for most, _ in before.values()):  # or has read all
            self._progress_at = now
            self._hopeless = False
        self._overdue = any(
            unread >= SMALL and now - since > STANDSTILL for unread, since in self._unread.values()
        )

    def _let_in_waiting(self, now: float) -> None:
        """Let in those who wait, in their order, as far as they fit, or have waited for long."""
        blocked = False
        for worker, read_at in list(self.waiting.items()):
            coming = worker.coming_result()
            if now - max(self._since[worker], self._progress_at) > LONGEST_WAIT:
                self._hopeless = True
            if coming is not None:
                fits = self._fits(coming.size) and (coming.size <= SMALL or not blocked)
                large = coming.size > MOST_BUFFERED
                if not fits and (large or now - self._since[worker] < LONGEST_WAIT):
                    blocked = True
                    if now - read_at > TRICKLE_INTERVAL:
                        self.waiting[worker] = now
                        worker.transport.resume_reading()  # what it sends is weighed again
                    continue
            del self.waiting[worker], self._since[worker]
            if coming is not None:
                self._let_in(worker, coming)
            worker.resume_peer()

    def _ration_jobs(self, now: float) -> None:
        """Say how many jobs may be given out whose results will be large."""
        queues = self._queues
        if not self.scarce and not self.waiting and self._held <= self._least:
            self._sizes.clear()
            return queues.end_rations(now)
        sizes = self._sizes
        running = sum(function.running * size for function, size in sizes.items())
        expected = max(0, running - sum(coming.size for coming in self._coming.values()))
        spare = self._room - 2 * expected
        if self._overdue and not expected:
            spare = max(spare, 2 * max(sizes.values(), default=0))
        for function, size in sizes.items():
            jobs = max(0, spare) // (2 * size)
            if not jobs and self._held + expected + min(size, self._least) <= self._least + SMALL:
                jobs = 1
                expected += size
            queues.ration(function, jobs, now)
            spare -= 2 * size * min(jobs, max(1, function.queued))
        return None
