"""Large results and memory: which may come now, and how many jobs may bring more.

A result stays in memory until its client has read it. A worker whose result does not fit is not
read from until clients have read others, and when memory becomes scarce, jobs of functions with
large results are assigned only as there is room for their results. So what clients do not read in
time waits where it is made: as a job that has not begun. Small results always pass.

The memory that is used is known from time to time. Until then, what has come since is counted.
"""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Function, Peer

# Shares of the limit of memory: a result is let in as long as no more than this is used ...
FULL_SHARE = 0.85
# ... or while results take no more than this, whatever else takes memory.
RESERVED_SHARE = 1 / 8
# A result of at most this size (bytes) passes those that wait, if there is room for it.
SMALL = 2**20
# Our workers take a connection for dead after 30 s without an answer, or without a byte taken. So
# a result that the kernel may hold completely is let in after LONGEST_WAIT (seconds), and of a
# larger one a little is read each TRICKLE_INTERVAL.
LONGEST_WAIT = 20.0
TRICKLE_INTERVAL = 5.0
MAX_BUFFERED = 2**23  # bytes that the kernel may hold


@dataclass(frozen=True)
class ComingResult:
    """A large result whose beginning was read. ``message`` numbers the worker's messages."""

    message: int
    size: int  # bytes
    job: BrokerJob | None


@dataclass
class _BudgetWait:
    since: float
    read_at: float  # when a little was read from it


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
        self.waiting: dict[Bringer, _BudgetWait] = {}  # workers that are not read from
        self._coming: dict[Bringer, ComingResult] = {}  # what was let in, until it is complete
        self._sizes: dict[Function, int] = {}  # of the last large result of each function
        self._room = sys.maxsize  # bytes that results may still take
        self._held = 0  # bytes of results that are unread or coming

    def weigh(self, worker: Bringer) -> None:
        """The worker has begun a message: have it wait if that is a result that does not fit."""
        coming = worker.coming_result()
        if coming is None or self._coming.get(worker) == coming:
            return
        if coming.job is not None:
            self._learn_size(coming.job.function, coming.size)
        passes = coming.size <= SMALL or not self.waiting
        if worker not in self.waiting and passes and self._fits(coming.size):
            self._let_in(worker, coming)
        else:
            now = self._now()
            self.waiting.setdefault(worker, _BudgetWait(now, now)).read_at = now
            worker.pause_peer()

    def forget_peer(self, connection: Bringer) -> None:
        """A connection is gone."""
        self.waiting.pop(connection, None)
        self._coming.pop(connection, None)

    def share_memory(self, used: int, limit: int, readers: Iterable[Bringer]) -> int:
        """Let in what fits, given the bytes that are used and may be, and the clients that have
        something unread. Return how many bytes are missing for the first that does not fit."""
        self.scarce = used > limit / 2
        if not (self.scarce or self.waiting or self._coming or self._queues.rations):
            self._room, self._held = int(limit * FULL_SHARE) - used, 0
            return 0
        now = self._now()
        self._coming = {
            worker: coming
            for worker, coming in self._coming.items()
            if worker.coming_result() == coming
        }
        self._held = sum(reader.unread_bytes() for reader in readers)
        self._held += sum(coming.size for coming in self._coming.values())
        # While a result is put together from what was read it takes twice its size.
        ahead = sum(
            2 * coming.size - worker.partial_bytes() for worker, coming in self._coming.items()
        )
        reserved = int(limit * RESERVED_SHARE)
        self._room = max(int(limit * FULL_SHARE) - used - ahead, 2 * (reserved - self._held))
        missing = self._let_in_waiting(now)
        if self.scarce or self.waiting or self._held > reserved:
            lacking_for_jobs = self._ration_jobs(now)
            return missing or lacking_for_jobs
        coming = self._coming.values()
        self._sizes = {one.job.function: one.size for one in coming if one.job is not None}
        self._queues.end_rations(now)
        return 0

    def _learn_size(self, function: Function, size: int) -> None:
        if self.scarce and function not in self._sizes:
            self._queues.ration(function, 0, self._now())
        self._sizes[function] = size

    def _fits(self, size: int, expected: int = 0) -> bool:
        """Whether there is room for a result, beside those of jobs that are running."""
        held = self._held + expected
        return 2 * (size + expected) <= self._room or held <= SMALL

    def _let_in(self, worker: Bringer, coming: ComingResult) -> None:
        self._coming[worker] = coming
        self._room -= 2 * coming.size
        self._held += coming.size

    def _let_in_waiting(self, now: float) -> int:
        """Let in those that wait, in their order, as far as they fit or have waited for long.

        Return how many bytes are missing for the first that must go on waiting.
        """
        missing = 0
        for worker, wait in list(self.waiting.items()):
            coming = worker.coming_result()
            if coming is not None:
                size = coming.size
                passes = size <= SMALL or not missing
                overdue = size <= MAX_BUFFERED and now - wait.since >= LONGEST_WAIT
                if not overdue and not (passes and self._fits(size)):
                    missing = missing or max(1, 2 * size - self._room)
                    if now - wait.read_at > TRICKLE_INTERVAL:
                        wait.read_at = now
                        worker.transport.resume_reading()  # what it sends is weighed again
                    continue
                self._let_in(worker, coming)
            del self.waiting[worker]
            worker.resume_peer()
        return missing

    def _ration_jobs(self, now: float) -> int:
        """Say how many jobs may be assigned whose results will be large.

        Return how many bytes are missing for the next one, if none may be.
        """
        sizes = self._sizes
        running = sum(function.running * size for function, size in sizes.items())
        expected = max(0, running - sum(coming.size for coming in self._coming.values()))
        missing = 0
        for function, size in sizes.items():
            jobs = max(0, self._room - 2 * expected) // (2 * size)
            if not jobs and self._fits(size, expected):
                jobs = 1
            if not jobs and not expected and function.queued:
                missing = missing or 2 * size - self._room
            self._queues.ration(function, jobs, now)
            expected += size * min(jobs, max(1, function.queued))
        return missing
