"""Changes that are to be stored, and the replies that wait for them.

A background job is acknowledged, and given to workers, when its record is durable. Its record
goes when it has ended; that may come late (a crash then has it run again), but never early.
How often it was given out is written down for those that run for longer than a moment.
"""

from contextlib import AbstractContextManager, nullcontext

from gearman_py.broker.outbox import DeferredReply
from gearman_py.broker.state import BrokerJob
from gearman_py.store.base import Changes, Record


class CommitGroup:
    """What goes to the store together. ``jobs``: those that are added, each with its due time."""

    __slots__ = ("changes", "jobs")

    def __init__(self, jobs: list[tuple[BrokerJob, float]], changes: Changes) -> None:
        self.jobs = jobs
        self.changes = changes


class PendingChanges:
    """Changes that the store has not been told of yet, in an order in which none undoes another.

    What is removed goes with whatever is added after it: else a unique could be two records'.
    ``replies``: the jobs whose records are not durable yet, each with the answers that wait.
    ``guard``: a lock, where another thread takes what the broker's adds.
    """

    def __init__(self) -> None:
        self.guard: AbstractContextManager[object] = nullcontext()
        self.replies: dict[BrokerJob, list[DeferredReply]] = {}
        self._added: list[tuple[BrokerJob, float]] = []
        self._delivered: dict[int, int] = {}
        self._removed: list[int] = []

    @property
    def awaited(self) -> bool:
        """Whether there is something that a peer waits for."""
        return bool(self._added)

    @property
    def empty(self) -> bool:
        """Whether the store has been told of everything."""
        return not (self._added or self._removed or self._delivered)

    def add(self, job: BrokerJob, due: float = 0) -> None:
        """Make a job durable: a new one, or one that was in the foreground until now."""
        self.replies[job] = []
        with self.guard:
            self._added.append((job, due))

    def deliver(self, job: BrokerJob) -> None:
        """It was given to a worker."""
        with self.guard:
            self._delivered[job.number] = job.retries + 1

    def remove(self, job: BrokerJob) -> None:
        """It has ended."""
        with self.guard:
            self._delivered.pop(job.number, None)
            self._removed.append(job.number)

    def take(self, *, deliveries: bool) -> CommitGroup:
        """What the store is to do next; ``deliveries``: also which jobs were given out."""
        delivered = {}
        with self.guard:
            jobs, self._added = self._added, []
            removed, self._removed = self._removed, []
            if deliveries:
                delivered, self._delivered = self._delivered, {}
        return CommitGroup(
            jobs, Changes([_make_record(*entry) for entry in jobs], delivered, removed)
        )

    def put_back(self, changes: Changes) -> None:
        """A group was not stored: try again what no peer waits for."""
        with self.guard:
            self._removed[:0] = changes.removed
            ended = set(self._removed)
            counts = changes.delivered.items()
            old = {number: count for number, count in counts if number not in ended}
            self._delivered = old | self._delivered


def _make_record(job: BrokerJob, due: float) -> Record:
    return Record(
        job.number,
        job.function.name,
        job.unique,
        job.priority,
        int(due),
        job.reducer,
        job.workload,
        job.retries + (job.worker is not None),
    )
