"""How many workers a function needs for its oldest job to stay younger than a target.

    workers = seconds that a run takes x (jobs that come in a second + jobs that wait / target)

The first product is how many workers are busy if none waits (Little's law), the second how many
more do what waits within the target. Both times are averages of the last minute; jobs "come" when
they begin to wait for a worker, so one for later counts when it is due, a retry again, and one
whose key is full (key_limits) when there is room for it.
"""

from collections import deque
from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from gearman_py.broker.counts import Counts
from gearman_py.broker.restrictions import Restrictions
from gearman_py.broker.state import Function

INTERVAL = 10.0  # seconds between two marks
MARKS = 7  # the oldest is a minute old when the next one is set
DEFAULT_TARGET = 60.0


class DemandMark(NamedTuple):
    """How a function stood: runs started, runs ended and their seconds, jobs that waited."""

    started: int = 0
    ended: int = 0
    seconds: float = 0.0
    waiting: int = 0


class Demand:
    """Estimates from ``restrictions`` and the marks of the last minute. ``target``: in seconds."""

    def __init__(self, restrictions: Restrictions) -> None:
        self.target = DEFAULT_TARGET
        self._restrictions = restrictions
        self._marks = deque[tuple[float, dict[bytes, DemandMark]]](maxlen=MARKS)

    def set_mark(
        self, counts: Mapping[bytes, Counts], functions: Mapping[bytes, Function], now: float
    ) -> None:
        """Note how all functions that are told apart stand, if the last mark is old enough."""
        if not self._marks or self._marks[-1][0] + INTERVAL <= now:
            marks = {name: _mark(each, functions.get(name)) for name, each in counts.items()}
            self._marks.append((now, marks))

    def workers_wanted(self, function: Function, now: float) -> int:
        """The workers that it needs now; 0 without jobs, and while it is paused.

        Workers that a limit would leave idle are not counted. Until a run has ended it is 1 if
        there are jobs.
        """
        if self._restrictions.paused or function.paused:
            return 0
        since, marks = self._marks[0] if self._marks else (now, {})
        counts = function.counts
        before, mark = marks.get(counts.name, DemandMark()), _mark(counts, function)
        ended, seconds = mark.ended - before.ended, mark.seconds - before.seconds
        if not ended:
            ended, seconds = mark.ended, mark.seconds
        run_time = seconds / ended if ended else 0.0
        rate = mark.waiting / self.target
        if self._marks and counts.name == function.name:  # others are not counted apart
            came = mark.started - before.started + mark.waiting - before.waiting
            rate += max(0, came) / max(now - since, INTERVAL)
        if limit := function.rate:
            rate = min(rate, limit.most / limit.period)
        least = 1 if mark.waiting or function.running else 0
        wanted = max(least, ceil(run_time * rate - 1e-9))
        return min(wanted, function.max_running or wanted)


def _mark(counts: Counts, function: Function | None) -> DemandMark:
    counts.settle()
    waiting = function.queued if function else 0
    if function and function.key_limit:  # the others wait for their key, and not for a worker
        waiting = function.key_limit.available
    return DemandMark(counts.waits.total, counts.runs.total, counts.runs.seconds, waiting)
