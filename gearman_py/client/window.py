"""Bounds how many of map()'s jobs are submitted and not yet yielded, by number and by bytes.

While the caller processes a result, the results of the other jobs wait at the server or in our
memory.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from gearman_py.client.arguments import JobOptions
from gearman_py.client.job import ClientJob

J = TypeVar("J", bound=ClientJob)

IN_FLIGHT = 256
IN_FLIGHT_BYTES = 32 * 2**20
_UNKNOWN = 2**20  # bytes: the expected size of the first result


class Window(Generic[J]):
    """The jobs in flight, in the order in which they were given.

    The size of a result is known only when it arrives: the next ones are expected to be as large
    as the largest recent one. Raises ValueError for a limit below 1.
    """

    def __init__(self, in_flight: int, in_flight_bytes: int) -> None:
        for name, limit in (("in_flight", in_flight), ("in_flight_bytes", in_flight_bytes)):
            if limit < 1:
                raise ValueError(f"{name}={limit!r}: expected 1 or more")
        self.jobs: dict[J, None] = {}
        self._most, self._most_bytes = in_flight, in_flight_bytes
        self._workloads = 0  # bytes in flight
        self._expected: int | None = None  # bytes of a result

    def take_jobs(self, given: Iterator[J]) -> list[J]:
        """Take the jobs that there is room for: in larger groups where many are in flight."""
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

    def first_job(self) -> J:
        """The job that was given first."""
        return next(iter(self.jobs))

    def in_turn(self, ended: deque[J] | None) -> Iterator[J]:
        """The jobs to yield next, in the order of ``ended``; for None, in the order given."""
        while self.jobs:
            if ended is None:
                if not (job := self.first_job()).done():
                    return
            elif ended:
                job = ended.popleft()
            else:
                return
            del self.jobs[job]
            self._workloads -= len(job.workload)
            size, expected = job._result_size, self._expected or 0
            self._expected = size if size >= expected else expected - (expected - size) // 8
            yield job


def check_map_options(function: str, on_error: str, options: JobOptions) -> None:
    """Raise what map()'s first job would raise later, or never."""
    if on_error not in ("raise", "yield"):
        raise ValueError(f"on_error={on_error!r}: expected raise or yield")
    ClientJob(function, options=options)._must_have_result()
