"""A soft time limit for plain functions: an exception inside them, with time left to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gearman_py.worker.job import TimeLimit

_SENDING_RETRY = 0.05  # seconds until it is checked again whether a message is half sent


class SoftLimit:
    """``expired`` once it is over. It does not interrupt while ``is_sending()``: half a message
    would be taken for the beginning of the next."""

    def __init__(self, seconds: float, is_sending: Callable[[], bool]) -> None:
        self.expired = False
        self._seconds = seconds
        self._is_sending = is_sending

    @contextmanager
    def time_limited(self) -> Iterator[None]:
        """Raises TimeLimit in the block when its time is over. In a process's main thread."""
        signal.signal(signal.SIGALRM, self._raise_time_limit)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _raise_time_limit(self, *_: object) -> None:
        if self._is_sending():
            signal.setitimer(signal.ITIMER_REAL, _SENDING_RETRY)
            return
        self.expired = True
        raise TimeLimit(f"it took longer than {self._seconds:g} s")
