"""What was counted of functions since the collector began, whatever servers did meanwhile.

A job server counts from its start. These sums go on when it is restarted, when it does not answer
for a while, and when the collector itself is restarted.
"""

from collections.abc import Iterable
from operator import ge
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats


class Counters(NamedTuple):
    """How often something happened to the jobs of a function; times are in seconds."""

    accepted: int = 0
    coalesced: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    requeued: int = 0
    timed_out: int = 0
    cancelled: int = 0
    dropped: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0

    @classmethod
    def of(cls, stats: FunctionStats) -> "Counters":
        return cls(*(getattr(stats, name) for name in cls._fields))

    def plus(self, other: "Counters") -> "Counters":
        return Counters(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))  # type: ignore[arg-type]  # int and float, as in the fields

    def minus(self, other: "Counters") -> "Counters":
        return Counters(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))  # type: ignore[arg-type]  # as above

    @property
    def ended(self) -> int:
        """Jobs that were completed or failed."""
        return self.completed + self.failed

    @property
    def failed_share(self) -> float:
        """The share of ended jobs that failed, 0 to 1."""
        return self.failed / self.ended if self.ended else 0.0

    @property
    def mean_wait(self) -> float | None:
        """Seconds that a job waited on average; None: none was started."""
        return self.wait_seconds / self.started if self.started else None

    @property
    def mean_run(self) -> float | None:
        """Seconds that a job ran on average; None: none ended."""
        return self.run_seconds / self.ended if self.ended else None


ZERO = Counters()


class Baseline:
    """What one server had counted when it was last asked, by function.

    ``pid`` tells its runs apart; None: it was never asked, and what it counted before is not news.
    A process that was put in its place by a reload goes on counting: no count of it is lower. One
    that was restarted is taken for that if it had more of everything when it was first asked.
    """

    def __init__(self, pid: int | None = None, known: dict[str, Counters] | None = None) -> None:
        self.pid = pid
        self.known = known or {}

    def advance(self, pid: int, rows: Iterable[FunctionStats]) -> dict[str, Counters]:
        """What happened since, of functions to whose jobs something happened."""
        first, other = self.pid is None, pid != self.pid
        known = {row.name: Counters.of(row) for row in rows}
        before = {} if other and not self._goes_on(known) else self.known
        self.pid, self.known = pid, known
        if first:
            return {}
        news = {}
        for name, counters in self.known.items():
            old = before.get(name, ZERO)
            if counters != old:
                # A pid may come again, after a restart of the host: then counts are lower.
                lower = counters.accepted < old.accepted or counters.started < old.started
                news[name] = counters if lower else counters.minus(old)
        return news

    def _goes_on(self, known: dict[str, Counters]) -> bool:
        return all(
            name in known and all(map(ge, known[name], old)) for name, old in self.known.items()
        )
