"""Waiting for what another process or thread brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

LIMIT = 60.0  # seconds: none of what tests wait for takes as long, on a busy machine either


def await_true(
    condition: Callable[[], object], limit: float = LIMIT, *, interval: float = 0.005
) -> None:
    """Poll ``condition`` until it holds; an AssertionError after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(interval)


def await_result(attempt: Callable[[], Result], *errors: type[Exception]) -> Result:
    """What ``attempt`` returns once it does not raise one of these."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            return attempt()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
