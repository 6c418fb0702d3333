"""The history: what is kept, and how much."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py.admin.answers import FunctionStats
from gearman_py.web.counters import Counters
from gearman_py.web.history import ALL, DAY, HOUR, MAX_SERIES, RESOLUTIONS, History, HistoryError

START = 1_800_000_000 // DAY * DAY


@pytest.fixture
def history() -> Iterator[History]:
    history = History(None)
    yield history
    history.close()


def record(history: History, at: float, jobs: int, functions: int = 1) -> None:
    """Each function has ``jobs`` waiting, and this many more were accepted."""
    names = [f"function-{number}" for number in range(functions)]
    stats = {name: FunctionStats(name, jobs, 0, jobs, 0, 3) for name in names}
    news = {name: Counters(accepted=jobs) for name in names}
    total = FunctionStats("", jobs * functions, 0, jobs * functions, 0, 3)
    history.record(at, stats, total, news, {})


def test_a_step_adds_counts_up_and_keeps_the_worst_value(history: History) -> None:
    for second, jobs in enumerate((3, 9, 4)):
        record(history, START + second, jobs)
    record(history, START + 15, 1)
    for name in (ALL, "function-0"):
        first, second_ = history.steps(name, RESOLUTIONS["hour"], START + 15)
        assert (first.at, first.accepted, first.waiting, first.workers) == (START, 16, 9, 3)
        assert (second_.at, second_.accepted, second_.waiting) == (START + 15, 1, 1)
        (hour,) = history.steps(name, RESOLUTIONS["week"], START + 15)
        assert hour.accepted == 17


def test_each_resolution_ends_where_it_should(history: History) -> None:
    for at in range(START, START + 10 * DAY, HOUR):
        record(history, at, 1)
    now = START + 10 * DAY - HOUR
    counts = {
        name: len(history.steps(ALL, resolution, now)) for name, resolution in RESOLUTIONS.items()
    }
    assert counts == {"hour": 1, "day": 24, "week": 8 * 24}


def test_the_busiest_functions_are_told_apart_and_no_others(history: History) -> None:
    names = [f"function-{number}" for number in range(MAX_SERIES + 200)]
    stats = {name: FunctionStats(name, 1, 0, 1) for name in names}
    stats["busy"] = FunctionStats("busy", 1000, 0, 1000)
    history.record(START, stats, FunctionStats(""), {}, {})
    history.record(START + HOUR // 2, stats, FunctionStats(""), {}, {})
    known = [name for name in stats if history.steps(name, RESOLUTIONS["day"], START + HOUR)]
    assert len(known) == MAX_SERIES
    assert "busy" in known


@pytest.mark.slow
def test_the_file_stays_below_what_the_docs_say(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = History(path)
    steps = 12
    for number in range(steps):
        record(history, START + number * HOUR, 123_456, MAX_SERIES)
    history.close()
    rows = (steps + 12 + 2) * MAX_SERIES  # of a week, of a day, of the last hour
    most = sum(each.kept // each.step for each in RESOLUTIONS.values()) * (MAX_SERIES + 1)
    assert path.stat().st_size / rows * most < 50e6


def test_what_is_not_a_history_is_said(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("something else, and long enough to be looked at " * 20)
    with pytest.raises(HistoryError, match="file is not a database"):
        History(path)


def test_the_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE jobs (handle TEXT)")
    before = path.read_bytes()
    with pytest.raises(HistoryError, match="the database of another program"):
        History(path)
    assert path.read_bytes() == before
    History(tmp_path / "own").close()
    History(tmp_path / "own").close()
