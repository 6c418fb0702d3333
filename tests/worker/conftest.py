"""For tests of what a worker does in each of the three ways to run a function."""

from collections.abc import Iterator

import pytest

from tests.leftovers import leftovers_killed


@pytest.fixture(params=["thread", "process", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _leftovers_killed() -> Iterator[None]:
    with leftovers_killed():
        yield
