"""For tests of the broker's rules."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Garbage is not looked for, as in a server: with all the tests' objects that takes 60 ms."""
    gc.disable()
    yield
    gc.enable()
