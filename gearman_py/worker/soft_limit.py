"""A soft time limit for plain functions: an exception inside them while there is time to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gearman_py.worker.job import TimeLimit

_AGAIN = 0.05  # seconds to another look at whether it is sending


class SoftLimit:
    """``rung`` once it is over. It does not interrupt while ``sending``: half a message would
    be taken for the beginning of the next."""

    def __init__(self, seconds: float, sending: Callable[[], bool]) -> None:
        self.rung = False
        self._seconds = seconds
        self._sending = sending

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises TimeLimit in the block when its time is over. In a process's first thread."""
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, *_: object) -> None:
        if self._sending():
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            return
        self.rung = True
        raise TimeLimit(f"it took longer than {self._seconds:g} s")
