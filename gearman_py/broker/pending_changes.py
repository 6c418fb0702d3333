"""Changes that are to be stored, and the replies that wait for them.

A background job is acknowledged, and assigned to workers, once its record is durable. The record
is removed after the job has ended: perhaps late (after a crash it then runs again), but never
early. How often a job was assigned is recorded for those that run longer than a moment.
"""

from contextlib import AbstractContextManager, nullcontext
from copy import copy
from math import ceil

from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.outbox import DeferredReply
from gearman_py.broker.state import BrokerJob
from gearman_py.store.base import Changes, Record


class CommitGroup:
    """Changes that are committed together. ``jobs`` are awaited, each with its due time."""

    __slots__ = ("changes", "jobs")

    def __init__(self, jobs: list[tuple[BrokerJob, float]], changes: Changes) -> None:
        self.jobs = jobs
        self.changes = changes


class PendingChanges:
    """Changes that the store has not been told of yet.

    A removal goes with what is added after it; otherwise two records could have the same unique.
    ``replies`` has the jobs whose records are not durable yet, each with the answers that wait.
    ``rewritten`` has records of other content under the numbers that they had, and ``retried`` the
    jobs among ``replies`` that had one: as failed jobs, or, with None, as jobs that were changed.
    ``guard`` is a lock for when another thread takes the changes. ``refusal`` says why no jobs can
    be stored for now; empty: they can.
    """

    def __init__(self) -> None:
        self.guard: AbstractContextManager[object] = nullcontext()
        self.refusal = b""
        self.replies: dict[BrokerJob, list[DeferredReply]] = {}
        self.retried: dict[BrokerJob, FailedJob | None] = {}
        self.rewritten: dict[int, Record] = {}
        self._added: list[tuple[BrokerJob, float]] = []
        self._delivered: dict[int, int] = {}
        self._removed: dict[int, None] = {}

    @property
    def awaited(self) -> bool:
        """Whether a peer waits for one of the changes."""
        return bool(self._added)

    @property
    def empty(self) -> bool:
        """Whether there are no changes."""
        return not (self._added or self._removed or self._delivered or self.rewritten)

    def add(self, job: BrokerJob, due: float = 0) -> None:
        """Store a job: a new one, or one that was a foreground job before."""
        self.replies[job] = []
        with self.guard:
            self._added.append((job, due))

    def rewrite(self, record: Record) -> None:
        """The record with this number now says something else."""
        with self.guard:
            self._delivered.pop(record.number, None)
            self._removed.pop(record.number, None)
            self.rewritten[record.number] = record

    def retry(self, job: BrokerJob, failed: FailedJob) -> None:
        """Store that a failed job is to run again."""
        self.retried[job] = failed
        self.replies[job] = []
        record = _make_record(job, 0)
        with self.guard:
            self._removed.pop(record.number, None)
            self.rewritten[record.number] = record
            self._added.append((job, 0))

    def postpone(self, job: BrokerJob, due: float) -> None:
        """The job must not run before ``due`` (seconds since 1970)."""
        self.rewrite(_make_record(job, ceil(due)))

    def change(self, job: BrokerJob, due: float) -> list[DeferredReply]:
        """Store a job as it is now; return the list of the answers that wait for that."""
        stand_in = copy(job)  # the job itself does not wait for it
        self.retried[stand_in] = None
        replies = self.replies[stand_in] = list[DeferredReply]()
        record = _make_record(job, ceil(due))
        with self.guard:
            self.rewritten[record.number] = record
            self._added.append((stand_in, due))
        return replies

    def deliver(self, job: BrokerJob) -> None:
        """The job was assigned to a worker."""
        with self.guard:
            self._delivered[job.number] = job.retries + 1

    def remove(self, number: int) -> None:
        """The job with this number has ended."""
        with self.guard:
            self._delivered.pop(number, None)
            if self.rewritten:
                self.rewritten.pop(number, None)
            self._removed[number] = None

    def take(self, *, deliveries: bool) -> CommitGroup:
        """Take out what the store is to do; ``deliveries``: with the jobs that were assigned."""
        delivered = {}
        with self.guard:
            jobs, self._added = self._added, []
            removed, self._removed = self._removed, {}
            rewritten, self.rewritten = self.rewritten, {}
            if deliveries:
                delivered, self._delivered = self._delivered, {}
        if rewritten:
            for number in delivered.keys() & rewritten.keys():  # it was assigned again since
                rewritten[number] = rewritten[number]._replace(deliveries=delivered.pop(number))
        new = [entry for entry in jobs if entry[0] not in self.retried] if self.retried else jobs
        added = [_make_record(*entry) for entry in new]
        changes = Changes(added, delivered, list(removed), list(rewritten.values()))
        return CommitGroup(jobs, changes)

    def put_back(self, changes: Changes) -> None:
        """Put the parts of a group that was not stored back, except what peers waited for."""
        with self.guard:
            later, self._removed = self._removed, dict.fromkeys(changes.removed)
            self._removed |= later
            for number in self.rewritten:
                self._removed.pop(number, None)
            old = {record.number: record for record in changes.rewritten}
            self.rewritten = {n: old[n] for n in old if n not in later} | self.rewritten
            gone = self._removed.keys() | self.rewritten.keys()
            counts = changes.delivered.items()
            self._delivered = {n: count for n, count in counts if n not in gone} | self._delivered

    def resume(
        self, delivered: dict[int, int], removed: list[int], rewritten: list[Record]
    ) -> None:
        """Begin with changes that another process could not store."""
        with self.guard:
            self._delivered, self._removed = delivered, dict.fromkeys(removed)
            self.rewritten = {record.number: record for record in rewritten}


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
