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

# Bytes of workloads in a group, besides one job that is larger: others are to be stored between,
# and a database is to answer each within seconds.
GROUP_BYTES = 4 * 2**20


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
        self._size = 0  # bytes of workloads, at least

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
            self._size += len(job.workload)

    def rewrite(self, record: Record) -> None:
        """The record with this number now says something else."""
        with self.guard:
            self._delivered.pop(record.number, None)
            self._removed.pop(record.number, None)
            self._put_rewritten(record)

    def _put_rewritten(self, record: Record) -> None:
        self.rewritten[record.number] = record
        self._size += len(record.workload)

    def retry(self, job: BrokerJob, failed: FailedJob) -> None:
        """Store that a failed job is to run again."""
        self.retried[job] = failed
        self.replies[job] = []
        record = _make_record(job, 0)
        with self.guard:
            self._removed.pop(record.number, None)
            self._put_rewritten(record)
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
            self._put_rewritten(record)
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

    def take(self, *, deliveries: bool, most: float = GROUP_BYTES) -> CommitGroup:
        """Take out what the store is to do; ``deliveries``: with the jobs that were assigned.

        ``most``: bytes of workloads, besides one job that is larger.
        """
        delivered = {}
        with self.guard:
            jobs, rewritten = self._take_all() if self._size <= most else self._take_some(most)
            removed, self._removed = self._removed, {}
            if deliveries:
                delivered, self._delivered = self._delivered, {}
            for records in (rewritten, self.rewritten):
                for number in delivered.keys() & records.keys():  # it was assigned again since
                    records[number] = records[number]._replace(deliveries=delivered.pop(number))
        new = [entry for entry in jobs if entry[0] not in self.retried] if self.retried else jobs
        added = [_make_record(*entry) for entry in new]
        changes = Changes(added, delivered, list(removed), list(rewritten.values()))
        return CommitGroup(jobs, changes)

    def _take_all(self) -> tuple[list[tuple[BrokerJob, float]], dict[int, Record]]:
        jobs, self._added = self._added, []
        rewritten, self.rewritten = self.rewritten, {}
        self._size = 0
        return jobs, rewritten

    def _take_some(self, most: float) -> tuple[list[tuple[BrokerJob, float]], dict[int, Record]]:
        """The first jobs of each peer, and then the first records of other content, that fit."""
        jobs: list[tuple[BrokerJob, float]] = []
        left: list[tuple[BrokerJob, float]] = []
        behind = set[object]()  # the peers of those that are left, which keep their order
        size = self._size = 0
        for entry in self._added:
            job = entry[0]
            peer = self._find_peer(job)
            ordered = behind and (peer is None or peer in behind)
            if jobs and (ordered or size + len(job.workload) > most):
                left.append(entry)
                behind.add(peer)
                self._size += len(job.workload)
            else:
                jobs.append(entry)
                if len(job.workload) <= most:  # next to a large one there is room for others
                    size += len(job.workload)
        self._added = left
        kept = {job.number for job, _ in left if job in self.retried}
        due = {job.number for job, _ in jobs if job in self.retried}
        rewritten: dict[int, Record] = {}
        for number, record in list(self.rewritten.items()):
            fits = not (jobs or rewritten) or size + len(record.workload) <= most
            if number in due or (fits and number not in kept):
                rewritten[number] = self.rewritten.pop(number)
                size += 0 if number in due else len(record.workload)
            elif number not in kept:
                self._size += len(record.workload)
        return jobs, rewritten

    def _find_peer(self, job: BrokerJob) -> object:
        """The peer that waits for the job, or None if it must not overtake others."""
        replies = self.replies[job]
        if not replies or job in self.retried or job.function.name.startswith(b"\0"):
            return None
        return replies[0].peer

    def put_back(self, changes: Changes) -> None:
        """Put the parts of a group that was not stored back, except what peers waited for."""
        with self.guard:
            later, self._removed = self._removed, dict.fromkeys(changes.removed)
            self._removed |= later
            for number in self.rewritten:
                self._removed.pop(number, None)
            old = {record.number: record for record in changes.rewritten}
            self.rewritten = {n: old[n] for n in old if n not in later} | self.rewritten
            self._size += sum(len(record.workload) for record in changes.rewritten)
            gone = self._removed.keys() | self.rewritten.keys()
            counts = changes.delivered.items()
            self._delivered = {n: count for n, count in counts if n not in gone} | self._delivered

    def resume(
        self, delivered: dict[int, int], removed: list[int], rewritten: list[Record]
    ) -> None:
        """Begin with changes that another process could not store."""
        with self.guard:
            self._delivered, self._removed = delivered, dict.fromkeys(removed)
            for record in rewritten:
                self._put_rewritten(record)


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
