"""Who of many servers on a database sees that one is gone, how soon, and at what cost."""

import random
from collections.abc import Iterator

import pytest

from gearman_py.store import shared
from gearman_py.store.base import Changes, Record, first_number
from gearman_py.store.database import Shelf
from gearman_py.store.failure_detector import ROWS_PER_SECOND, WATCHED, FailureDetector
from tests.bench.many_shelves import opened
from tests.server import databases
from tests.server.databases import Postgres, Redis

PATIENCE = 6.0


class Fleet:
    """Runs that look at each other once a second, each at its own moment of the second."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.now = 0.0
        self.rows = 0  # that the database had to find
        self.beats = dict.fromkeys(range(1, number + 1), 0)
        self.gone: dict[int, float] = {}  # run: when it was taken over, and before that inf
        self._detectors = {run: FailureDetector(run, PATIENCE) for run in self.beats}
        self._moments = {run: chance.random() for run in self.beats}

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            second = self.now
            for run, moment in sorted(self._moments.items(), key=lambda each: each[1]):
                self.now = second + moment
                if run not in self.gone:
                    self._look(run)
            self.now = second + 1

    def _look(self, run: int) -> None:
        self.beats[run] += 1
        detector = self._detectors[run]
        asked = detector.choose(self.now)
        there = [each for each in (self.beats if asked is None else asked) if each in self.beats]
        self.rows += len(there)
        found = [Shelf(each, b"", each, self.beats[each], False) for each in there if each != run]
        for silent in detector.note(asked, found, self.now):
            assert silent in self.gone, "it is alive"
            self.gone[silent] = self.now
            del self.beats[silent]

    def end(self, runs: list[int]) -> None:
        self.gone |= dict.fromkeys(runs, float("inf"))


@pytest.mark.parametrize("number", [2, 20, 100, 300])
def test_cost_of_idle_servers_is_linear_and_one_that_is_gone_is_found_in_seven_seconds(
    number: int,
) -> None:
    chance = random.Random(number)  # noqa: S311 - repeatable
    fleet = Fleet(number, chance)
    fleet.run(5)
    fleet.rows = 0
    fleet.run(30)
    assert fleet.rows / 30 / number <= ROWS_PER_SECOND + WATCHED + 1
    ended = fleet.now
    fleet.end([chance.randint(1, number)])
    fleet.run(10)
    (found,) = fleet.gone.values()
    assert PATIENCE < found - ended <= PATIENCE + 2


def test_half_of_many_servers_that_end_at_once_are_found_soon() -> None:
    """Also those whose watchers are among them."""
    chance = random.Random(1)  # noqa: S311 - repeatable
    fleet = Fleet(200, chance)
    fleet.run(30)
    ended = fleet.now
    fleet.end(chance.sample(range(1, 201), 100))
    fleet.run(30)
    found = sorted(each - ended for each in fleet.gone.values())
    assert found[90] <= PATIENCE + 2
    assert found[-1] <= 3 * PATIENCE


@pytest.fixture(params=[Postgres, Redis])
def database(request: pytest.FixtureRequest) -> Iterator[Postgres | Redis]:
    with databases.open_folder() as folder:
        made = request.param(folder)
        with databases.running(made):
            yield made


@pytest.mark.slow
def test_jobs_of_one_of_many_servers_are_taken_over(
    database: Postgres | Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than are looked at each second, on a database and by a clock of its own."""
    now = 1000.0
    monkeypatch.setattr(shared, "lease_clock", lambda: now)
    with opened(database, 2 * ROWS_PER_SECOND) as stores:
        gone, *others = stores
        number = first_number(gone.series)
        record = Record(number, b"f", b"", 1, 0, b"", b"w", 0)
        gone.commit(Changes([record], {}, []))
        adopted = []
        for _ in range(9):
            now += 1.02
            adopted += [each for store in others for each in store.adopt()]
        assert [each.record.workload for each in adopted] == [b"w"]
