"""Decides how many processes a worker has, by how many of them have a job.

A worker keeps one more process than has jobs: where each has one, others may be waiting, which
every job server shows alike, also of functions that are limited or paused there. It grows within
seconds and shrinks after a minute, so it does not follow each change of the load.
"""

from math import inf

BUSY_SECONDS = 1.0  # without a free process, after which more are started
SPARE_SECONDS = 60.0  # for which more than one is free, after which those that are not needed end
MEMORY_SECONDS = 10.0  # between two that end as memory is short


class ScalingRule:
    """For ``least`` to ``most`` processes; time begins at the first decision."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._busy_since = self._spare_since = self._short_since = inf
        self._spare = 0  # how many of those that are free were not needed since then
        self.lacks_memory = False
        """Whether memory alone keeps it from growing."""

    def decide(self, now: float, count: int, free: int, fitting: int) -> int:
        """How many to start of ``count`` processes, or to end (below 0).

        ``free`` of them have no job. ``fitting`` more have room in memory; below 0: too much is
        used. Time is in seconds.
        """
        self._busy_since = now if free else min(self._busy_since, now)
        if self._spare_since == inf:
            self._spare = count
        self._spare_since = min(self._spare_since, now) if free > 1 else inf
        self._spare = min(self._spare, free - 1)
        self._short_since = min(self._short_since, now) if fitting < 0 else inf
        if now - self._busy_since >= BUSY_SECONDS and count < self._most:
            self._busy_since = now
            wanted = min(max(1, count // 2), self._most - count)
            self.lacks_memory = fitting < 1
            return max(0, min(wanted, fitting))
        if now - self._short_since >= MEMORY_SECONDS and count > self._least:
            self._short_since = now
            return -1
        if now - self._spare_since >= SPARE_SECONDS:
            ending = max(0, min(self._spare, count - self._least))
            self._spare_since = inf
            return -ending
        return 0
