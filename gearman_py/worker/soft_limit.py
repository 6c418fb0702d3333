"""A soft time limit for plain functions: an exception inside them while there is time to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from gearman_py.worker.job import TimeLimit


class SoftLimit:
    """``rung`` once it is over."""

    def __init__(self, seconds: float) -> None:
        self.rung = False
        self._seconds = seconds

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises TimeLimit in the block when its time is over. In a process's first thread."""
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, *_: object) -> NoReturn:
        self.rung = True
        raise TimeLimit(f"it took longer than {self._seconds:g} s")
