"""How many of map()'s jobs are submitted and not yet yielded: bounded by number and by bytes.

While the caller is busy with a result nothing is read, or what is read is kept; so what is
outstanding is owed by the server or lies in our memory.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from gearman_py.client.arguments import Options, Submit
from gearman_py.client.job import ClientJob

J = TypeVar("J", bound=ClientJob)

IN_FLIGHT = 256
IN_FLIGHT_BYTES = 32 * 2**20
_UNKNOWN = 2**20  # what a result is taken to have before there was one


class Window(Generic[J]):
    """The jobs in flight, in the order in which they were given.

    The size of a result is known when it comes: the next ones are expected to be as large as the
    largest of late. Raises ValueError for a limit that lets nothing through.
    """

    def __init__(self, in_flight: int, in_flight_bytes: int) -> None:
        for name, limit in (("in_flight", in_flight), ("in_flight_bytes", in_flight_bytes)):
            if limit < 1:
                raise ValueError(f"{name}={limit!r} lets no job through; expected 1 or more")
        self.jobs: dict[J, None] = {}
        self._most, self._most_bytes = in_flight, in_flight_bytes
        self._workloads = 0  # bytes in flight
        self._expected: int | None = None  # bytes of a result

    def fill(self, given: Iterator[J]) -> list[J]:
        """Take the jobs there is room for: many together, where many are in flight."""
        batch: list[J] = []
        free = self._most - len(self.jobs)
        if free < self._most // 8:
            return batch
        expected = _UNKNOWN if self._expected is None else self._expected
        room = self._most_bytes - self._workloads - len(self.jobs) * expected  # bytes
        while free and (room >= expected or not self.jobs) and (job := next(given, None)):
            self.jobs[job] = None
            batch.append(job)
            free -= 1
            room -= expected + len(job.workload)
        self._workloads += sum(len(job.workload) for job in batch)
        return batch

    def first(self) -> J:
        """The job that was given first."""
        return next(iter(self.jobs))

    def in_turn(self, ended: deque[J] | None) -> Iterator[J]:
        """The jobs whose turn it is: as they have ended, or in the order given for None."""
        while self.jobs:
            if ended is None:
                if not (job := self.first()).done():
                    return
            elif ended:
                job = ended.popleft()
            else:
                return
            del self.jobs[job]
            self._workloads -= len(job.workload)
            size, expected = job.result_size, self._expected or 0
            self._expected = size if size >= expected else expected - (expected - size) // 8
            yield job


def check(function: str, on_error: str, options: Options) -> None:
    """Raises at once what map()'s first job would raise later, or never."""
    if on_error not in ("raise", "yield"):
        raise ValueError(f"on_error={on_error!r}: expected raise or yield")
    ClientJob(Submit(function=function, **options))._must_have_result()
