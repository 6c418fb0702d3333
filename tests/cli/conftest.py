"""No command outlives the test that started it."""

from collections.abc import Iterator

import pytest

from tests.leftovers import leftovers_killed


@pytest.fixture(autouse=True)
def _leftovers_killed() -> Iterator[None]:
    with leftovers_killed():
        yield
