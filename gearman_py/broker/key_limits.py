"""Limits of how many jobs with the same key run at a time, such as those of one customer.

The key of a job is the beginning of its unique. The queues of a function with such a limit give
out the oldest job whose key has room. The cost of each step does not grow with the number of jobs
whose key has none, and jobs that are queued when the limit is set are looked at little by little:
none is given out before.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain
from math import inf
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gearman_py.broker.backlog import Backlog, Part

MAX_PER_KEY = 10**9
MAX_SEPARATOR = 16  # bytes
STALE = 64  # entries of removed jobs of a key, which are not worth a cleanup


class _Job(Protocol):
    unique: bytes
    queued: bool

    @property
    def worker(self) -> object: ...


Job = TypeVar("Job", bound=_Job)


class KeyUse:
    """How many jobs of a key are ``queued`` and ``running``; ``most`` may run at a time."""

    __slots__ = ("key", "most", "queued", "running")

    def __init__(self, key: bytes, most: float) -> None:
        self.key = key
        self.most = most
        self.queued = self.running = 0

    @property
    def available(self) -> int:
        """How many of the queued jobs may be given out now."""
        if self.running + self.queued <= self.most:
            return self.queued
        return max(0, int(self.most) - self.running)


class KeyLimit(Generic[Job]):
    """At most ``most`` jobs of each key run at a time.

    A key is the unique up to the first ``separator``. Jobs without a unique, or with ``-``, have
    no key and are not limited. ``queues``: by priority.
    """

    __slots__ = ("_available", "_counting", "_running", "_uses", "most", "queues", "separator")

    def __init__(self, most: int, separator: bytes = b":") -> None:
        """Raises ValueError."""
        if not 0 < most <= MAX_PER_KEY:
            raise ValueError(f"{most} jobs per key: expected 1 to {MAX_PER_KEY}")
        if not 0 < len(separator) <= MAX_SEPARATOR:
            raise ValueError(f"a separator has 1 to {MAX_SEPARATOR} bytes, not {len(separator)}")
        self.most = most
        self.separator = separator
        self.queues = [KeyedQueue(self) for _ in range(3)]
        self._available = 0
        self._uses: dict[bytes, KeyUse] = {}
        self._running: set[Job] = set()
        self._counting = False  # not all running jobs are counted yet

    @property
    def available(self) -> int:
        """How many of the queued jobs may be given out now, of those that were looked at."""
        return 0 if self._counting else self._available

    def look_at_all(self, running: Iterable[Job]) -> Iterator[None]:
        """Count the ``running`` jobs, and then the queued ones; yields after each of them."""
        self._counting = True
        return self._look_at_each(running)

    def _look_at_each(self, running: Iterable[Job]) -> Iterator[None]:
        for job in running:
            if job.worker is not None and job not in self._running:
                self.note_started(job)
            yield
        self._counting = False
        for queue in self.queues:
            while queue.backlog:
                queue.look_at_next()
                yield

    def dismantle(self) -> Iterator[None]:
        """Free the memory of a limit that is no longer in effect; yields after each key."""
        while self._uses:
            key, _ = self._uses.popitem()
            for queue in self.queues:
                queue.forget(key)
            yield

    @classmethod
    def parse(cls, text: str) -> "KeyLimit[Job]":
        """The inverse of ``str``. Raises ValueError."""
        most, _, separator = text.partition("/")
        return cls(int(most), unquote_to_bytes(separator))

    def __str__(self) -> str:
        return f"{self.most}/{quote_from_bytes(self.separator, safe='')}"

    def key(self, job: Job) -> bytes:
        """The key of a job; empty: it has none."""
        return b"" if job.unique == b"-" else job.unique.partition(self.separator)[0]

    @property
    def first_priority(self) -> int:
        """That of the job which is given out next, if one is ``available``."""
        queues = enumerate(self.queues)
        return next(place for place, queue in queues if queue.find_ready() is not None)

    def note_started(self, job: Job) -> None:
        """A job runs."""
        self._running.add(job)
        use = self.find_use(self.key(job))
        self.count(use, running=1)

    def note_taken(self, use: KeyUse, job: Job) -> None:
        """A queued job runs."""
        self._running.add(job)
        self.count(use, queued=-1, running=1)

    def note_ended(self, job: Job) -> None:
        """A job runs no longer."""
        if job not in self._running:
            return  # it was not counted yet
        self._running.discard(job)
        use = self.find_use(self.key(job))
        self.count(use, running=-1)
        for queue in self.queues:
            queue.offer(use)

    def find_use(self, key: bytes) -> KeyUse:
        """How many jobs a key has."""
        use = self._uses.get(key)
        if use is None:
            use = self._uses[key] = KeyUse(key, self.most if key else inf)
        return use

    def count(self, use: KeyUse, *, queued: int = 0, running: int = 0) -> None:
        """Note a change of the number of a key's jobs."""
        self._available -= use.available
        use.queued += queued
        use.running += running
        self._available += use.available
        if not (use.queued or use.running):
            del self._uses[use.key]
            for queue in self.queues:
                queue.forget(use.key)


class KeyLine(Generic[Job]):
    """The jobs of a key in a queue, as a heap of their places; the place that was ``offered``.

    ``live`` of the entries are of jobs that were not removed.
    """

    __slots__ = ("entries", "live", "offered")

    def __init__(self) -> None:
        self.entries: list[tuple[int, Job]] = []
        self.live = 0
        self.offered: int | None = None


class KeyedQueue(Generic[Job]):
    """The queued jobs of a function and priority, in order; used as a deque.

    The last of them may be in a ``backlog``: they were not looked at yet, and some may have left
    the queue. Any other job that is removed is at once gone from the queue, but stays among those
    of its key until it would be the next of these, or most of them are such.
    """

    __slots__ = ("_end", "_jobs", "_limit", "_lines", "_ready", "_start", "backlog")

    def __init__(self, limit: KeyLimit[Job]) -> None:
        self._limit = limit
        self._start = self._end = 0
        self.backlog = Backlog[Job]()
        self._reset()

    def _reset(self) -> None:
        self._jobs: OrderedDict[Job, int] = OrderedDict()  # in order, each with its place
        self._lines: dict[bytes, KeyLine[Job]] = {}
        self._ready: list[tuple[int, bytes]] = []  # what keys offer, and did before, as a heap

    @property
    def parts(self) -> list[Part[Job]]:
        """All jobs, for a queue that takes the place of this one."""
        return [self._jobs, *self.backlog.parts]

    def __len__(self) -> int:
        return len(self._jobs) + len(self.backlog)

    def __iter__(self) -> Iterator[Job]:
        return chain(self._jobs, self.backlog)

    def __reversed__(self) -> Iterator[Job]:
        return chain(reversed(self.backlog), reversed(self._jobs))

    def __getitem__(self, place: int) -> Job:
        """The first job, or the last."""
        if place:
            return next(reversed(self))
        while not self._jobs and not self.backlog[0].queued:
            self.backlog.popleft()
        return next(iter(self))

    def append(self, job: Job) -> None:
        """Put a job at the end."""
        if self.backlog:
            self.backlog.append(job)
        else:
            self._append(job)

    def _append(self, job: Job) -> None:
        self._jobs[job] = self._end
        self._enter_line(job, self._end)
        self._end += 1

    def extend(self, jobs: Iterable[Job]) -> None:
        """Put jobs at the end."""
        for job in jobs:
            self.append(job)

    def look_at_next(self) -> None:
        """Look at the next job of the backlog, which may be given out from now on."""
        job = self.backlog.popleft()
        if job.queued and job not in self._jobs:
            self._append(job)

    def rotate(self) -> None:
        """Put the last job at the beginning."""
        if self.backlog:
            job = self.backlog.pop()
        else:
            job = self[-1]
            self.discard(job)
        self._start -= 1
        self._jobs[job] = self._start
        self._jobs.move_to_end(job, last=False)
        self._enter_line(job, self._start)

    def _enter_line(self, job: Job, place: int) -> None:
        use = self._limit.find_use(self._limit.key(job))
        line = self._lines.get(use.key)
        if line is None:
            line = self._lines[use.key] = KeyLine()
        heappush(line.entries, (place, job))
        line.live += 1
        self._limit.count(use, queued=1)
        self.offer(use)

    def clear(self) -> None:
        """Remove all jobs."""
        for job in self._jobs:
            self._limit.count(self._limit.find_use(self._limit.key(job)), queued=-1)
        self.backlog.clear()
        self._reset()

    def discard(self, job: Job) -> None:
        """Remove a job, wherever it is."""
        if self._jobs.pop(job, None) is None:
            return
        use = self._limit.find_use(self._limit.key(job))
        line = self._lines[use.key]
        line.live -= 1
        if len(line.entries) > STALE + 2 * line.live:
            line.entries = [entry for entry in line.entries if self._is_live(entry)]
            heapify(line.entries)
        self._limit.count(use, queued=-1)

    def _is_live(self, entry: tuple[int, Job]) -> bool:
        place, job = entry
        return self._jobs.get(job) == place

    def popleft(self) -> Job:
        """Remove the first job whose key has room; it counts as running from now on.

        Raises IndexError if there is none.
        """
        use = self.find_ready()
        if use is None:
            raise IndexError("no key has room")
        line = self._lines[use.key]
        _, job = heappop(line.entries)
        line.live -= 1
        del self._jobs[job]
        self._limit.note_taken(use, job)
        self.offer(use)
        return job

    def find_ready(self) -> KeyUse | None:
        """The key of the job that `popleft` would return."""
        while self._ready:
            place, key = self._ready[0]
            line = self._lines.get(key)
            if line is not None and line.offered == place:
                use = self._limit.find_use(key)
                if use.running < use.most and self._first_place(line) == place:
                    return use
                line.offered = None
                heappop(self._ready)
                self.offer(use)
            else:
                heappop(self._ready)
        return None

    def offer(self, use: KeyUse) -> None:
        """Let the first job of a key be given out in its turn, if the key has room."""
        line = self._lines.get(use.key)
        if line is None or use.running >= use.most:
            return
        place = self._first_place(line)
        if place is not None and line.offered != place:
            line.offered = place
            heappush(self._ready, (place, use.key))

    def _first_place(self, line: KeyLine[Job]) -> int | None:
        """The place of a key's first job, past those that were removed."""
        while line.entries:
            if self._is_live(line.entries[0]):
                return line.entries[0][0]
            heappop(line.entries)
        return None

    def forget(self, key: bytes) -> None:
        """A key has no jobs."""
        self._lines.pop(key, None)
