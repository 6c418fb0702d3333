"""For tests of what a worker does in each of the three ways to run a function."""

import pytest


@pytest.fixture(params=["thread", "process", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
