"""Most of a broker's queued jobs, copied for another process while peers are served.

The copy has the background jobs that are queued when it begins. What becomes of them until the
snapshot is found then: a job that was assigned, cancelled or queued again has another ``since``
object or is not queued. So the broker does nothing for it, and peers wait only for the rest.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import takewhile

from gearman_py.broker.job_columns import Section, as_text, pack_jobs
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Function

SLICE_JOBS = 512  # about 1 ms
SLICE_BYTES = 2**17  # of workloads


class AheadCopy:
    """A copy, of ``sections``; see `take_snapshot` for what follows them."""

    def __init__(self, broker: Rules, now: float) -> None:
        self._queues = queues = broker.queues
        # Jobs that wait for a commit are queued later, and began to wait before.
        self._boundary = min([now, *(job.since for job in queues.changes.replies)])
        self._functions = [each for each in queues.functions.values() if each.queued]
        self._candidates: list[BrokerJob] = []
        for function in self._functions:
            for queue in function.queues:
                self._candidates += queue
        self._jobs: list[BrokerJob] = []  # that were copied ...
        self._since: list[float] = []  # ... and since when they waited then
        self._counts: Counter[tuple[Function, int]] = Counter()  # of unchanged ones, by queue

    def sections(self) -> Iterator[Section]:
        """The sections; peers may be served between two."""
        yield {"ahead": [as_text(each.name) for each in self._functions]}
        functions = {function: place for place, function in enumerate(self._functions)}
        part: list[BrokerJob] = []
        size = looked = 0
        for job in self._candidates:
            looked += 1
            if self._can_copy(job):
                part.append(job)
                size += len(job.workload)
            if looked == SLICE_JOBS or size >= SLICE_BYTES:
                yield self._pack_slice(part, functions)
                part, size, looked = [], 0, 0
        yield self._pack_slice(part, functions)
        self._candidates = []

    def _can_copy(self, job: BrokerJob) -> bool:
        return job.queued and job.background and not job.clients and job.since < self._boundary

    def _pack_slice(self, part: list[BrokerJob], functions: dict[Function, int]) -> Section:
        # Jobs that have changed since they were chosen are found with the others, in the end.
        self._jobs += part
        self._since += [job.since for job in part]
        self._counts.update([(job.function, job.priority) for job in part])
        return pack_jobs(self._queues, part, functions, {}) | {"copied": True}

    def finish(self) -> list[int]:
        """The places of the copied jobs that have changed; no others may change from now on."""
        changed = [
            place
            for place, (job, since) in enumerate(zip(self._jobs, self._since, strict=True))
            if job.since is not since or not job.queued or job.clients
        ]
        for place in changed:
            job = self._jobs[place]
            self._counts[job.function, job.priority] -= 1
        self._changed = changed
        return changed

    def rest_of(self, function: Function, priority: int) -> tuple[list[BrokerJob], bool]:
        """The jobs of a queue that are not in the copy, and whether they are its last."""
        queue, boundary = function.queues[priority], self._boundary
        live = (job for job in reversed(queue) if job.queued)
        rest = list(takewhile(lambda job: job.since >= boundary, live))[::-1]
        if len(rest) + self._counts[function, priority] == function.waiting[priority]:
            return rest, True
        copied = self._unchanged
        return list(dict.fromkeys(j for j in queue if j.queued and j not in copied)), False

    @cached_property
    def _unchanged(self) -> set[BrokerJob]:
        return set(self._jobs).difference(map(self._jobs.__getitem__, self._changed))
