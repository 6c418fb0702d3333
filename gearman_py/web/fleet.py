"""What is known of all job servers now, and what happened within the last minutes."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats, WorkerInfo, join_stats
from gearman_py.admin.numbers import parse_seconds
from gearman_py.web.counters import ZERO, Counters
from gearman_py.web.worker_rows import WorkerRow, WorkerTable

MINUTE = 60.0
RECENT = 15  # minutes over which failures are judged


@dataclass
class ServerLook:
    """A job server as it was when it was last asked; ``why`` it did not answer, if it did not.

    ``counts``: it is one that counts (ours, not C gearmand). ``since``: when it was first found as
    it is, answering or not, in seconds since 1970. ``asked``: when it was asked, by the monotonic
    clock. ``seconds``: how long it took to answer. ``steered``: it obeys from here.
    """

    number: int
    address: str
    tls: bool = False
    why: str = "not asked yet"
    since: float = 0.0
    asked: float = 0.0
    steered: bool = True
    version: str = ""
    pid: int = 0
    counts: bool = False
    seconds: float = 0.0
    functions: dict[str, FunctionStats] = field(default_factory=dict)
    connections: list[WorkerInfo] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        return not self.why

    def fact(self, name: str) -> float:
        """A number that it says about itself; 0 if it does not."""
        try:
            return parse_seconds(self.facts.get(name, "0"))
        except ValueError:
            return 0.0

    @property
    def memory_share(self) -> float:
        """The share of its limit of memory that it uses; 0: it has none."""
        limit = self.fact("memory_limit")
        return self.fact("memory") / limit if limit else 0.0

    def count(self, what: str) -> int:
        """Its waiting, running or scheduled jobs."""
        return sum(getattr(stats, what) for stats in self.functions.values())

    @property
    def workers(self) -> int:
        """Connections that can do something."""
        return sum(bool(each.functions) for each in self.connections)


class FunctionRow(NamedTuple):
    """A function over all servers: now, within the last minute, and within the last 15."""

    stats: FunctionStats
    minute: Counters = ZERO
    recent: Counters = ZERO

    @property
    def name(self) -> str:
        return self.stats.name

    @property
    def worker_share(self) -> float:
        """The share of its workers that run a job of it."""
        return self.stats.running / self.stats.workers if self.stats.workers else 0.0


def join_functions(rows: list[dict[str, FunctionStats]]) -> dict[str, FunctionStats]:
    """The functions of several servers."""
    joined: dict[str, FunctionStats] = {}
    for functions in rows:
        for name, stats in functions.items():
            known = joined.get(name)
            joined[name] = join_stats(known, stats) if known else stats
    return joined


class Snapshots:
    """What had been counted at times within the last minutes, to know what happened since.

    A snapshot shares what did not change with the one before.
    """

    def __init__(self, span: float, spacing: float) -> None:
        self._span = span
        self._spacing = spacing
        self._taken: deque[tuple[float, dict[str, Counters]]] = deque()

    def add(self, when: float, totals: dict[str, Counters]) -> None:
        """Remember it, unless the last one is too young."""
        if not self._taken or when - self._taken[-1][0] >= self._spacing:
            self._taken.append((when, dict(totals)))
        while len(self._taken) > 1 and when - self._taken[1][0] >= self._span:
            self._taken.popleft()

    def since(self, name: str, total: Counters) -> Counters:
        """What happened to a function within the span."""
        return total.minus(self._taken[0][1].get(name, ZERO)) if self._taken else ZERO

    def seconds(self, when: float) -> float:
        """How long the span is by now; it grows to its full length at first."""
        return when - self._taken[0][0] if self._taken else 0.0


class Round(NamedTuple):
    """What all servers said, together; ``total`` counts workers as processes."""

    when: float  # seconds since 1970
    servers: list[ServerLook]
    functions: dict[str, FunctionStats]
    total: FunctionStats
    workers: list[WorkerRow]


class Fleet:
    """All job servers as one.

    ``total`` is all functions together, its workers counted as processes; ``minute_seconds`` is how
    long the "last minute" of the rows is, which grows to 60 at first.
    """

    def __init__(self) -> None:
        self.when = 0.0  # seconds since 1970
        self.rounds = 0
        self.servers: list[ServerLook] = []
        self.functions: dict[str, FunctionRow] = {}
        self.total = FunctionRow(FunctionStats(""))
        self.totals: dict[str, Counters] = {}
        self.workers: list[WorkerRow] = []
        self._worker_table = WorkerTable()
        self.minute_seconds = 0.0
        self._minute = Snapshots(MINUTE, 0.0)
        self._recent = Snapshots(RECENT * MINUTE, MINUTE)

    def join(self, when: float, servers: list[ServerLook]) -> Round:
        """What the servers said at ``when``, together."""
        answering = [server for server in servers if server.answers]
        functions = join_functions([server.functions for server in answering])
        workers = self._worker_table.update(
            when, {server.address: server.connections for server in answering}
        )
        total = FunctionStats("")
        for stats in functions.values():
            total = join_stats(total, stats)
        return Round(when, servers, functions, total._replace(workers=len(workers)), workers)

    def update(self, clock: float, found: Round, news: dict[str, Counters]) -> None:
        """Show a round, and what happened since the last one, by the monotonic ``clock``."""
        for name, counters in news.items():
            self.totals[name] = self.totals.get(name, ZERO).plus(counters)
        minute = recent = ZERO
        self.functions = {}
        for name, stats in found.functions.items():
            row = FunctionRow(stats)
            if total := self.totals.get(name):
                row = FunctionRow(
                    stats, self._minute.since(name, total), self._recent.since(name, total)
                )
                minute, recent = minute.plus(row.minute), recent.plus(row.recent)
            self.functions[name] = row
        self.total = FunctionRow(found.total, minute, recent)
        self.minute_seconds = self._minute.seconds(clock)
        self._minute.add(clock, self.totals)
        self._recent.add(clock, self.totals)
        self.when, self.servers, self.workers = found.when, found.servers, found.workers
        self.rounds += 1

    @property
    def answering(self) -> list[ServerLook]:
        return [server for server in self.servers if server.answers]

    @property
    def unsteered(self) -> list[str]:
        """The addresses of ours that take commands only on an admin socket which is not here."""
        return [each.address for each in self.servers if not each.steered]

    def of_c(self, function: str) -> list[ServerLook]:
        """Those that answer, have the function ("": any) and do not count its jobs (C gearmand)."""
        return [each for each in self._having(function) if not each.counts]

    def counts(self, function: str) -> bool:
        """Whether what happens to its jobs is counted anywhere, as far as is known."""
        having = self._having(function)
        return not having or any(each.counts for each in having)

    def _having(self, function: str) -> list[ServerLook]:
        return [each for each in self.answering if not function or function in each.functions]

    @property
    def counted(self) -> bool:
        """Whether any of them counts jobs."""
        return any(server.counts for server in self.servers)

    def rate(self, count: int) -> float:
        """A count of the last minute, by second."""
        return count / self.minute_seconds if self.minute_seconds else 0.0
