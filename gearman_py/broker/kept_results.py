"""Results of background jobs, kept for a while for who asks for them.

In a durable queue the record of such a job stays, under its number, as that of a failed job does
(failed_jobs): its function has a name that clients cannot send, and its workload is what is known
of the job, followed by the result. So a job is either queued or complete, whenever the server dies.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from gearman_py.broker.limits import SLICE
from gearman_py.store.base import Record

RESULT_NAME = b"\0result"
OVERHEAD = 500  # bytes that a result takes besides its texts, roughly


class KeptResult(NamedTuple):
    """What a worker returned ``when`` (seconds since 1970) the job with this handle was complete.

    ``number`` is that of the job: in a durable queue, of its record.
    """

    number: int
    handle: bytes
    function: bytes
    when: float
    result: bytes

    @property
    def size(self) -> int:
        """The bytes that it takes, roughly."""
        return OVERHEAD + len(self.result) + len(self.function)


class KeptResults:
    """Results by handle.

    ``seconds``: for how long those of each function are kept; those of others for as long as it
    says for the function ``b""``. Of all functions, as many are kept as take ``max_bytes``: those
    go first whose time ends first.
    """

    def __init__(self, seconds: Mapping[bytes, float], max_bytes: int = 64 * 2**20) -> None:
        self._usual = seconds.get(b"", 0.0)
        self._seconds = seconds
        self.max_bytes = max_bytes
        self.bytes = 0
        self._results: dict[bytes, KeptResult] = {}
        self._ends: list[tuple[float, bytes]] = []  # when each is forgotten, as a heap
        self._counts = Counter[bytes]()

    def __iter__(self) -> Iterator[KeptResult]:
        return iter(self._results.values())

    @property
    def total(self) -> int:
        """How many are kept."""
        return len(self._results)

    def count(self, function: bytes) -> int:
        """How many results of a function are kept."""
        return self._counts[function]

    def wants(self, function: bytes, size: int) -> bool:
        """Whether a result of this size is kept at all."""
        return self._seconds_of(function) > 0 and size + OVERHEAD <= self.max_bytes

    def get(self, handle: bytes) -> KeptResult | None:
        """The result of the job with this handle."""
        return self._results.get(handle)

    def add(self, kept: KeptResult) -> Sequence[KeptResult]:
        """Keep a result; return those that are no longer kept, which may be this one."""
        if kept.handle in self._results or not self.wants(kept.function, len(kept.result)):
            return [kept]
        self._results[kept.handle] = kept
        self._counts[kept.function] += 1
        self.bytes += kept.size
        heappush(self._ends, (kept.when + self._seconds_of(kept.function), kept.handle))
        return self.shrink(self.max_bytes)

    def shrink(self, max_bytes: int) -> Sequence[KeptResult]:
        """Take out as many as needed for the others to take at most this number of bytes."""
        dropped = []
        while self.bytes > max_bytes:
            dropped.append(self._drop_first())
        return dropped

    def expire(self, wall: float) -> Sequence[KeptResult]:
        """Take out those whose time has ended; if they are many, a part of them."""
        expired: list[KeptResult] = []
        while self._ends and self._ends[0][0] <= wall and len(expired) < SLICE:
            expired.append(self._drop_first())
        return expired

    def next_expiry(self, wall: float) -> float:
        """The seconds until the next one is forgotten, or inf."""
        return max(0.0, self._ends[0][0] - wall) if self._ends else inf

    def _seconds_of(self, function: bytes) -> float:
        return self._seconds.get(function, self._usual)

    def _drop_first(self) -> KeptResult:
        _, handle = heappop(self._ends)
        kept = self._results.pop(handle)
        self.bytes -= kept.size
        self._counts[kept.function] -= 1
        if not self._counts[kept.function]:
            del self._counts[kept.function]
        return kept


def make_result_record(kept: KeptResult) -> Record:
    """How a result is stored."""
    facts = {"function": kept.function.decode("latin-1"), "when": kept.when}
    workload = json.dumps(facts).encode() + b"\0" + kept.result
    return Record(kept.number, RESULT_NAME, b"", 1, 0, b"", workload, 0)


def parse_result_record(record: Record, handle: bytes) -> KeptResult:
    """The inverse of `make_result_record`. Raises ValueError."""
    head, _, result = record.workload.partition(b"\0")
    try:
        facts = json.loads(head)
        function, when = facts["function"].encode("latin-1"), float(facts["when"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"record {record.number} does not describe a result") from error
    return KeptResult(record.number, handle, function, when, result)
