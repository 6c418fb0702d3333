"""A soft time limit for plain functions: an exception inside them, with time left to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, current_thread, main_thread

from gearman_py.worker.job import TimeLimit

_SENDING_RETRY = 0.05  # seconds between checks whether a message is half sent


class SendGuard:
    """Held while a message is sent, in any thread: a time limit must not interrupt that.

    The receiver would take half a message for the beginning of the next one.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._postponed: Callable[[], None] | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        # For a function that sends continuously, this is the only moment to handle a signal.
        if self._postponed is not None and current_thread() is main_thread():
            call, self._postponed = self._postponed, None
            call()

    def postpone(self, call: Callable[[], None]) -> bool:
        """Call ``call`` once the main thread has sent its message; False if it sends none."""
        if not self._lock.locked():
            return False
        self._postponed = call
        return True

    def forget(self) -> None:
        """Forget what was postponed."""
        self._postponed = None


class SoftLimit:
    """``expired`` once it is over. It does not interrupt while a message is sent."""

    def __init__(self, seconds: float, guard: SendGuard) -> None:
        self.expired = False
        self._seconds = seconds
        self._guard = guard

    @contextmanager
    def time_limited(self) -> Iterator[None]:
        """Raises TimeLimit in the block when its time is over. In a process's main thread."""
        signal.signal(signal.SIGALRM, lambda *_: self._raise_time_limit())
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._guard.forget()

    def _raise_time_limit(self) -> None:
        if self._guard.postpone(self._raise_time_limit):
            signal.setitimer(signal.ITIMER_REAL, _SENDING_RETRY)  # another thread may be sending
            return
        self.expired = True
        raise TimeLimit(f"it took longer than {self._seconds:g} s")
