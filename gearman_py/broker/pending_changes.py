"""Changes that are to be stored, and the replies that wait for them.

A background job is acknowledged, and assigned to workers, once its record is durable. The record
is removed after the job has ended: perhaps late (after a crash it then runs again), but never
early. How often a job was assigned is recorded for those that run longer than a moment.
"""

from contextlib import AbstractContextManager, nullcontext

from gearman_py.broker.outbox import DeferredReply
from gearman_py.broker.state import BrokerJob
from gearman_py.store.base import Changes, Record


class CommitGroup:
    """Changes that are committed together. ``jobs`` are added, each with its due time."""

    __slots__ = ("changes", "jobs")

    def __init__(self, jobs: list[tuple[BrokerJob, float]], changes: Changes) -> None:
        self.jobs = jobs
        self.changes = changes


class PendingChanges:
    """Changes that the store has not been told of yet.

    A removal goes with what is added after it; otherwise two records could have the same unique.
    ``replies`` has the jobs whose records are not durable yet, each with the answers that wait.
    ``guard`` is a lock for when another thread takes the changes.
    """

    def __init__(self) -> None:
        self.guard: AbstractContextManager[object] = nullcontext()
        self.replies: dict[BrokerJob, list[DeferredReply]] = {}
        self._added: list[tuple[BrokerJob, float]] = []
        self._delivered: dict[int, int] = {}
        self._removed: list[int] = []

    @property
    def awaited(self) -> bool:
        """Whether a peer waits for one of the changes."""
        return bool(self._added)

    @property
    def empty(self) -> bool:
        """Whether there are no changes."""
        return not (self._added or self._removed or self._delivered)

    def add(self, job: BrokerJob, due: float = 0) -> None:
        """Store a job: a new one, or one that was a foreground job before."""
        self.replies[job] = []
        with self.guard:
            self._added.append((job, due))

    def deliver(self, job: BrokerJob) -> None:
        """The job was assigned to a worker."""
        with self.guard:
            self._delivered[job.number] = job.retries + 1

    def remove(self, number: int) -> None:
        """The job with this number has ended."""
        with self.guard:
            self._delivered.pop(number, None)
            self._removed.append(number)

    def take(self, *, deliveries: bool) -> CommitGroup:
        """Take out what the store is to do; ``deliveries``: with the jobs that were assigned."""
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
        """Put the parts of a group that was not stored back, except what peers waited for."""
        with self.guard:
            self._removed[:0] = changes.removed
            ended = set(self._removed)
            counts = changes.delivered.items()
            old = {number: count for number, count in counts if number not in ended}
            self._delivered = old | self._delivered

    def resume(self, delivered: dict[int, int], removed: list[int]) -> None:
        """Begin with changes that another process could not store."""
        with self.guard:
            self._delivered, self._removed = delivered, removed


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
