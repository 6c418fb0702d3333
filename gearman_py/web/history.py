"""The history: what happened within the last 8 days, in an SQLite file.

It is kept in three resolutions, so that its size is bounded: see RESOLUTIONS and MAX_SERIES. What
was counted is added up, of all else the worst value of a step is kept.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats
from gearman_py.web.counters import ZERO, Baseline, Counters

HOUR, DAY = 3600, 86400
ALL = ""  # the series of all functions together
MAX_SERIES = 500  # functions that have a history of their own in each hour: the busiest


class Resolution(NamedTuple):
    """Steps of ``step`` seconds are kept for ``span`` seconds."""

    name: str
    step: int
    span: int
    label: str

    @property
    def kept(self) -> int:
        """How long its steps are kept: one more than is shown."""
        return self.span + self.step


RESOLUTIONS = {
    each.name: each
    for each in (
        Resolution("hour", 15, HOUR, "last hour"),
        Resolution("day", 300, DAY, "last 24 hours"),
        Resolution("week", 3600, 8 * DAY, "last 8 days"),
    )
}


class Step(NamedTuple):
    """What happened within a step, and the worst that was seen in it."""

    at: int  # when it began, in seconds since 1970
    accepted: int
    started: int
    completed: int
    failed: int
    requeued: int
    wait_seconds: float
    run_seconds: float
    waiting: int  # the most
    running: int  # the most
    workers: int  # the fewest
    oldest_seconds: float  # the most


_COUNTED = ("accepted", "started", "completed", "failed", "requeued", "wait_seconds", "run_seconds")
_MOST = ("waiting", "running", "oldest_seconds")
_UPDATES = (
    *(f"{name} = {name} + excluded.{name}" for name in _COUNTED),
    *(f"{name} = max({name}, excluded.{name})" for name in _MOST),
    "workers = min(workers, excluded.workers)",
)
_FIELDS = ", ".join(Step._fields)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS steps (
    series INTEGER NOT NULL, step INTEGER NOT NULL, {" NOT NULL, ".join(Step._fields)} NOT NULL,
    PRIMARY KEY (series, step, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS steps_by_age ON steps (step, at);
CREATE TABLE IF NOT EXISTS baselines (
    server TEXT NOT NULL, function TEXT NOT NULL, counters TEXT NOT NULL,
    PRIMARY KEY (server, function)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS servers (name TEXT PRIMARY KEY, pid INTEGER NOT NULL);
"""
_RECORD = (
    f"INSERT INTO steps (series, step, {_FIELDS}) VALUES "  # noqa: S608  names of columns
    f"({', '.join('?' * (len(Step._fields) + 2))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(_UPDATES)}"
)


class HistoryError(Exception):
    """The file of the history cannot be used; the message says which and why."""


class History:
    """The history in a file, or in memory if ``path`` is None. Safe to use from several threads."""

    def __init__(self, path: Path | None) -> None:
        """Raises HistoryError."""
        self._lock = threading.Lock()
        self._ids: dict[str, int] = {}
        self._told_apart: set[str] = set()
        self._hour = 0
        self._stored: dict[str, Baseline] = {}
        try:
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False)
            self._refuse_foreign(path)
            self._database.executescript(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}"
            )
        except sqlite3.Error as error:
            raise HistoryError(f"{path}: {error}") from error

    def _refuse_foreign(self, path: Path | None) -> None:
        """Raises HistoryError for the database of another program."""
        query = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        tables = {name for (name,) in self._database.execute(query)}
        if tables and "steps" not in tables:
            self._database.close()
            raise HistoryError(f"{path}: it is the database of another program")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def baselines(self) -> dict[str, Baseline]:
        """What each server had counted when it was last asked."""
        with self._lock:
            found = {
                server: Baseline(pid)
                for server, pid in self._database.execute("SELECT name, pid FROM servers")
            }
            for server, function, counters in self._database.execute(
                "SELECT server, function, counters FROM baselines"
            ):
                if server in found:
                    found[server].known[function] = Counters(*json.loads(counters))
        self._stored = {
            server: Baseline(baseline.pid, dict(baseline.known))
            for server, baseline in found.items()
        }
        return found

    def record(
        self,
        when: float,
        functions: Mapping[str, FunctionStats],
        total: FunctionStats,
        news: Mapping[str, Counters],
        baselines: Mapping[str, Baseline],
    ) -> None:
        """Add what was found at ``when``: gauges, what happened since, and what to go on from."""
        together = ZERO
        for counters in news.values():
            together = together.plus(counters)
        with self._lock, self._database:
            rows = [(ALL, total, together)]
            for name in self._choose_functions(when, functions, news):
                stats = functions.get(name) or FunctionStats(name)
                rows.append((name, stats, news.get(name, ZERO)))
            self._database.executemany(_RECORD, self._steps_of(when, rows))
            self._store_baselines(baselines)
            self._prune(when)

    def _choose_functions(
        self, when: float, functions: Mapping[str, FunctionStats], news: Mapping[str, Counters]
    ) -> list[str]:
        """Those told apart: in each hour the first that were busy, the busiest first."""
        if self._hour != (hour := int(when) // HOUR):
            self._hour, self._told_apart = hour, set()
        busy = {
            name: row.jobs + row.workers
            for name, row in functions.items()
            if row.jobs or row.workers
        }
        for name, counters in news.items():
            busy[name] = busy.get(name, 0) + counters.accepted + counters.started
        others = sorted(busy.keys() - self._told_apart, key=lambda name: -busy[name])
        self._told_apart.update(others[: MAX_SERIES - len(self._told_apart)])
        return [name for name in self._told_apart if name in busy]

    def _steps_of(
        self, when: float, rows: Iterable[tuple[str, FunctionStats, Counters]]
    ) -> Iterable[tuple[float, ...]]:
        for name, stats, counters in rows:
            values = [getattr(counters, each) for each in _COUNTED]
            gauges = stats.waiting, stats.running, stats.workers, stats.oldest_seconds
            for resolution in RESOLUTIONS.values():
                at = int(when) // resolution.step * resolution.step
                yield (self._id(name), resolution.step, at, *values, *gauges)

    def _id(self, name: str) -> int:
        if name not in self._ids:
            self._database.execute("INSERT OR IGNORE INTO series (name) VALUES (?)", (name,))
            query = "SELECT id FROM series WHERE name = ?"
            (self._ids[name],) = self._database.execute(query, (name,)).fetchone()
        return self._ids[name]

    def _store_baselines(self, baselines: Mapping[str, Baseline]) -> None:
        for server, baseline in baselines.items():
            stored = self._stored.get(server)
            if baseline.pid is None:
                continue
            if stored is None or stored.pid != baseline.pid:
                self._database.execute("DELETE FROM baselines WHERE server = ?", (server,))
                self._database.execute(
                    "INSERT OR REPLACE INTO servers VALUES (?, ?)", (server, baseline.pid)
                )
                stored = Baseline()
            changed = [
                (server, name, json.dumps(counters))
                for name, counters in baseline.known.items()
                if stored.known.get(name) != counters
            ]
            self._database.executemany("INSERT OR REPLACE INTO baselines VALUES (?, ?, ?)", changed)
            self._stored[server] = Baseline(baseline.pid, baseline.known)

    def _prune(self, when: float) -> None:
        for resolution in RESOLUTIONS.values():
            self._database.execute(
                "DELETE FROM steps WHERE step = ? AND at < ?",
                (resolution.step, int(when) - resolution.kept),
            )

    def steps(self, name: str, resolution: Resolution, now: float) -> list[Step]:
        """The steps of a function, or of ALL, oldest first; those without values are left out."""
        start = int(now) // resolution.step * resolution.step - resolution.span
        query = (
            f"SELECT {_FIELDS} FROM steps JOIN series ON series = series.id "  # noqa: S608  columns
            "WHERE name = ? AND step = ? AND at > ? ORDER BY at"
        )
        with self._lock:
            rows = self._database.execute(query, (name, resolution.step, start))
            return [Step(*row) for row in rows]
