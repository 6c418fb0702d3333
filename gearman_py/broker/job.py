"""A job, and a function's jobs by what has become of them."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gearman_py.broker.peer import Peer

HIGH, NORMAL, LOW = PRIORITIES = range(3)

Key = bytes | tuple[bytes]
"""What jobs coalesce on: their unique; for the unique `-`, their workload (as a 1-tuple, so
that a workload never equals somebody's unique)."""


class Job:
    """One unit of work, from its submission until it is complete, failed or dropped.

    It is queued when ``worker`` is None, else running there. ``clients`` has an entry for
    each foreground submission that waits for it. ``background``: it must be done even
    though nobody waits; once true it stays so, whoever else joins or leaves.
    """

    __slots__ = (
        "background",
        "clients",
        "deadline",
        "denominator",
        "dropped",
        "due",
        "function",
        "handle",
        "key",
        "numerator",
        "priority",
        "reducer",
        "retries",
        "unique",
        "worker",
        "workload",
    )

    def __init__(
        self,
        handle: bytes,
        function: "Function",
        unique: bytes,
        workload: bytes,
        priority: int,
        key: Key | None,
    ) -> None:
        self.handle = handle
        self.function = function
        self.unique = unique
        self.workload = workload
        self.priority = priority
        self.key = key
        self.background = False
        self.clients: list[Peer] = []
        self.worker: Peer | None = None
        self.numerator = self.denominator = b"0"
        self.retries = 0
        self.reducer = b""
        self.deadline: float | None = None
        self.due = False  # an epoch job whose time has not come: in no queue yet
        self.dropped = False  # gone, but still somewhere in a queue: to be skipped there


class Function:
    """A function's name, its queued jobs by priority, and the workers that sleep for it.

    ``queued``, ``running`` and ``scheduled`` (future epoch jobs) count live jobs.
    ``limits`` are of the text command maxqueue, by priority; 0 is unlimited.
    """

    __slots__ = (
        "limits",
        "name",
        "queued",
        "queues",
        "running",
        "scheduled",
        "sleepers",
        "uniques",
        "workers",
    )

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.queues: tuple[deque[Job], deque[Job], deque[Job]] = (deque(), deque(), deque())
        self.queued = self.running = self.scheduled = 0
        self.limits = [0, 0, 0]
        self.uniques: dict[Key, Job] = {}
        self.workers: dict[Peer, None] = {}
        self.sleepers: dict[Peer, None] = {}  # in the order in which they fell asleep

    @property
    def total(self) -> int:
        return self.queued + self.running + self.scheduled

    def push(self, job: Job) -> None:
        """Put a job at the end of its priority's queue."""
        self.queued += 1
        self.queues[job.priority].append(job)

    def pop(self, priority: int) -> Job | None:
        """Take the oldest live job of a priority."""
        queue = self.queues[priority]
        while queue:
            job = queue.popleft()
            if not job.dropped:
                self.queued -= 1
                return job
        return None

    def drop(self, job: Job) -> None:
        """Let go of a queued job, wherever in its queue it is."""
        self.queued -= 1
        job.dropped = True
        queue = self.queues[job.priority]
        # Dropped jobs wait for their turn to be skipped; they may not become the most of a queue.
        if len(queue) > 64 and len(queue) > 2 * self.queued:
            live = [other for other in queue if not other.dropped]
            queue.clear()
            queue.extend(live)

    def jobs_queued(self) -> Iterator[Job]:
        return (job for queue in self.queues for job in queue if not job.dropped)
