"""Running jobs that their workers have lost and that are still to be given back.

A worker may have thousands, which are given back while peers are served.
"""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf

from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Peer

SLICE_LOST = 100  # jobs that are given back at a time: some 1 ms


class LostJobs:
    """The jobs, each as it ran when it was lost. ``lose`` gives one back."""

    def __init__(self, queues: Queues, lose: Callable[[BrokerJob, str], None]) -> None:
        self._queues = queues
        self._lose = lose
        self._jobs: deque[tuple[BrokerJob, Peer | None, float, str]] = deque()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, jobs: Iterable[BrokerJob], why: str) -> None:
        """Add running jobs, and give some back; the rest follows when the broker ticks."""
        self._jobs += [(job, job.worker, job.since, why) for job in jobs]
        self.give_back_some()
        if self._jobs:
            self._queues.next_event = -inf

    def give_back_some(self) -> None:
        """Give the first of them back, unless they have ended or been given back since."""
        for _ in range(min(SLICE_LOST, len(self._jobs))):
            job, worker, since, why = self._jobs.popleft()
            if job.worker is worker and job.since == since:
                self._lose(job, why)
