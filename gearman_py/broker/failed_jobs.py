"""Background jobs that failed for good, kept for operators.

In a durable queue the record of such a job stays, under its number: it is rewritten so that its
function has a name that clients cannot send (as in restriction_records), and its workload begins
with what is known of the failure. So a job is either failed or queued, whenever the server dies.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf
from typing import NamedTuple

from gearman_py.broker.limits import MAX_FAILED_BYTES, SLICE
from gearman_py.store.base import Record

FAILED_NAME = b"\0failed"
MAX_REASON = 2000  # bytes
OVERHEAD = 600  # bytes that a failed job takes besides its texts, roughly


class FailedJob(NamedTuple):
    """A background job that failed ``when`` (seconds since 1970), after ``attempts``.

    ``address`` and ``client_id`` are those of its last worker, ``reason`` is what that reported,
    or what happened to it.
    """

    number: int
    handle: bytes
    function: bytes
    unique: bytes
    priority: int
    reducer: bytes
    workload: bytes
    attempts: int
    when: float
    address: str
    client_id: bytes
    reason: bytes

    @property
    def size(self) -> int:
        """The bytes that it takes, roughly."""
        return OVERHEAD + len(self.workload) + len(self.function) + len(self.reason)

    def matches(self, function: bytes | None, unique: bytes, reason: bytes) -> bool:
        """Whether it has this function (None: any), this unique (empty: any) and this text in its
        reason.
        """
        return (
            (function is None or self.function == function)
            and (not unique or self.unique == unique)
            and reason in self.reason
        )


class FailedJobs:
    """Failed jobs by handle, those that failed last at the end.

    Of each function the last ``most`` are kept, for ``seconds`` (0: without limit), and of all
    functions as many as take ``max_bytes``.
    """

    def __init__(
        self, most: int = 0, seconds: float = 0.0, max_bytes: int = MAX_FAILED_BYTES
    ) -> None:
        self.most = most
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._bytes = 0
        self._jobs: dict[bytes, FailedJob] = {}
        self._functions: dict[bytes, dict[bytes, FailedJob]] = {}
        self._sorted = True

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[FailedJob]:
        self._sort()
        return iter(self._jobs.values())

    def functions(self) -> dict[bytes, int]:
        """How many jobs are kept of each function that has any."""
        return {name: len(jobs) for name, jobs in self._functions.items()}

    def count(self, function: bytes) -> int:
        """How many jobs of a function are kept."""
        return len(self._functions.get(function, ()))

    def list(self, function: bytes | None = None) -> Sequence[FailedJob]:
        """Those of a function, or all."""
        self._sort()
        jobs = self._jobs if function is None else self._functions.get(function, {})
        return tuple(jobs.values())

    def get(self, handle: bytes) -> FailedJob | None:
        """The job with this handle."""
        return self._jobs.get(handle)

    def add(self, job: FailedJob) -> Sequence[FailedJob]:
        """Keep a job; return those that are no longer kept, which may be this one."""
        if self._jobs and next(reversed(self._jobs.values())).when > job.when:
            self._sorted = False
        self._jobs[job.handle] = job
        own = self._functions.setdefault(job.function, {})
        own[job.handle] = job
        self._bytes += job.size
        if len(own) <= self.most and self._bytes <= self._max_bytes:
            return []
        self._sort()
        own = self._functions[job.function]
        dropped = []
        if len(own) > self.most:
            dropped.append(self._drop(next(iter(own))))
        while self._bytes > self._max_bytes:
            dropped.append(self._drop(next(iter(self._jobs))))
        return dropped

    def pop(self, handle: bytes) -> FailedJob | None:
        """Take out the job with this handle."""
        return self._drop(handle) if handle in self._jobs else None

    def expire(self, wall: float) -> Sequence[FailedJob]:
        """Take out those that have been kept long enough; if they are many, a part of them."""
        if not self._seconds or not self._jobs:
            return []
        self._sort()
        expired = [
            handle
            for handle, job in islice(self._jobs.items(), SLICE)
            if job.when + self._seconds <= wall
        ]
        return [self._drop(handle) for handle in expired]

    def next_expiry(self, wall: float) -> float:
        """The seconds until the next one has been kept long enough, or inf."""
        if not self._seconds or not self._jobs:
            return inf
        self._sort()
        return max(0.0, next(iter(self._jobs.values())).when + self._seconds - wall)

    def _drop(self, handle: bytes) -> FailedJob:
        job = self._jobs.pop(handle)
        own = self._functions[job.function]
        del own[handle]
        if not own:
            del self._functions[job.function]
        self._bytes -= job.size
        return job

    def _sort(self) -> None:
        """Jobs from the store come by number, and the time of day may be set back."""
        if not self._sorted:
            self._jobs = dict(sorted(self._jobs.items(), key=lambda item: item[1].when))
            self._functions = {}
            for handle, job in self._jobs.items():
                self._functions.setdefault(job.function, {})[handle] = job
            self._sorted = True


def make_failed_record(job: FailedJob) -> Record:
    """How a failed job is stored."""
    facts = {
        "function": job.function.decode("latin-1"),
        "when": job.when,
        "address": job.address,
        "client_id": job.client_id.decode("latin-1"),
        "reason": job.reason.decode("latin-1"),
    }
    workload = json.dumps(facts).encode() + b"\0" + job.workload
    number, unique, priority, reducer = job.number, job.unique, job.priority, job.reducer
    return Record(number, FAILED_NAME, unique, priority, 0, reducer, workload, job.attempts)


def parse_failed_record(record: Record, handle: bytes) -> FailedJob:
    """The inverse of `make_failed_record`. Raises ValueError."""
    head, _, workload = record.workload.partition(b"\0")
    try:
        facts = json.loads(head)
        return FailedJob(
            record.number,
            handle,
            facts["function"].encode("latin-1"),
            record.unique,
            record.priority,
            record.reducer,
            workload,
            record.deliveries,
            float(facts["when"]),
            str(facts["address"]),
            facts["client_id"].encode("latin-1"),
            facts["reason"].encode("latin-1"),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"record {record.number} does not describe a failed job") from error
