"""The jobs of a server that is gone wait until all that it stored is read.

Pauses and limits of their functions may be stored behind them.
"""

from collections import deque

from gearman_py.broker.state import BrokerJob

# When they are due, by which `Queues.find_scheduled` knows those that no operator has changed.
WHEN_READ = 0.0


class AdoptedJobs:
    """The ``numbers`` of the jobs, in order. ``reading``: there is more to be read."""

    __slots__ = ("numbers", "reading")

    def __init__(self) -> None:
        self.reading = False
        self.numbers = deque[int]()

    def __bool__(self) -> bool:
        """Whether some are to be queued now."""
        return bool(self.numbers) and not self.reading

    def hold(self, job: BrokerJob) -> None:
        """Have a job wait; it counts as scheduled."""
        job.function.scheduled += 1
        job.since = WHEN_READ
        self.numbers.append(job.number)

    def take_some(self, most: int) -> list[tuple[float, int]]:
        """Take out the first jobs that are to be queued now, as entries of what is due."""
        count = min(most, len(self.numbers)) if self else 0
        return [(WHEN_READ, self.numbers.popleft()) for _ in range(count)]
