"""Time limits of running jobs."""

from heapq import heappop, heappush
from math import inf

from gearman_py.broker.job_table import JobTable
from gearman_py.broker.limits import SLICE
from gearman_py.broker.state import BrokerJob


class TimeLimits(dict[BrokerJob, float]):
    """When the time limits of running jobs end."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # also of jobs that have ended since, by number

    def start(self, job: BrokerJob, deadline: float) -> None:
        """Give a job that is assigned until ``deadline``."""
        self[job] = deadline
        heappush(self._heap, (deadline, job.number))

    def next_deadline(self) -> float:
        """When the next limit may end; inf if there is none."""
        return self._heap[0][0] if self._heap else inf

    def expired(self, jobs: JobTable, now: float) -> list[BrokerJob]:
        """Remove and return the jobs that are over their limit; if they are many, a part."""
        found: list[BrokerJob] = []
        while self._heap and self._heap[0][0] <= now and len(found) < SLICE:
            deadline, number = heappop(self._heap)
            job = jobs.get(number)
            if job is not None and self.get(job) == deadline:
                del self[job]  # a job assigned twice at the same time has two equal entries
                found.append(job)
        return found
