"""Which of the runs that share a database have stopped to beat (see gearman_py.store.shared).

If each run looked at all others each second, the cost would grow with the square of their number.
So it looks at WATCHED of them each second, and at all only as often as makes ROWS_PER_SECOND on
average: with up to 20 others, that is each second too. The runs are put into a ring, in an order
that has nothing to do with their hosts or ages, and each one watches those that follow it. So one
that is gone is missed by WATCHED others, and one whose watchers are gone with it by the next that
looks at all.
"""

from bisect import bisect
from collections.abc import Sequence
from math import inf
from zlib import crc32

from gearman_py.store.database import Shelf

WATCHED = 8
ROWS_PER_SECOND = 20


class FailureDetector:
    """That of the run ``mine``; others are silent after ``patience`` seconds without a beat.

    Times are seconds of a clock of this host; clocks of different hosts are never compared.
    """

    def __init__(self, mine: int, patience: float) -> None:
        self._mine, self._patience = mine, patience
        self._seen: dict[int, tuple[int, float]] = {}  # beats, and since when
        self._watched: list[int] = []
        self._all_due = -inf  # when to look at all again

    def choose(self, now: float) -> list[int] | None:
        """The runs to look at now; None: all."""
        return None if now >= self._all_due else self._watched

    def forget(self) -> None:
        """Nothing was seen for some time, so that all others may seem silent."""
        self._seen = {}

    def note(self, asked: Sequence[int] | None, found: Sequence[Shelf], now: float) -> set[int]:
        """Note what was ``found`` of those that ``choose`` told; return which are silent."""
        before = self._seen
        if asked is None:
            self._seen = {}
            self._watched = self._choose_watched([run.number for run in found])
            self._all_due = now + len(found) / ROWS_PER_SECOND
        elif len(found) < len(asked):  # one has ended, and others are to be watched
            self._all_due = now
        silent = set()
        for run in found:
            beats, since = before.get(run.number, (-1, now))
            since = since if beats == run.beats else now
            self._seen[run.number] = run.beats, since
            if now - since > self._patience:
                silent.add(run.number)
        return silent

    def _choose_watched(self, runs: Sequence[int]) -> list[int]:
        ring = sorted(runs, key=_place)
        first = bisect(ring, _place(self._mine), key=_place)
        return (ring[first:] + ring[:first])[:WATCHED]


def _place(run: int) -> tuple[int, int]:
    return crc32(b"%d" % run), run
