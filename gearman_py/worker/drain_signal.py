"""Tells threads and processes that wait between two attempts that the worker drains."""

import select
import socket
from threading import Lock


class DrainSignal:
    """A socket that closes when the drain starts, which processes forked before then see too."""

    def __init__(self) -> None:
        self._watched, self._held = socket.socketpair()
        self._lock = Lock()

    def start_drain(self) -> None:
        """The worker drains. From any thread; a forked process that only waits calls it too."""
        with self._lock:
            self._held.close()

    def wait_for_drain(self, seconds: float) -> bool:
        """Wait for some seconds, or until the worker drains; whether it drains."""
        poll = select.poll()
        poll.register(self._watched, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Free it, when no thread waits any more."""
        self.start_drain()
        self._watched.close()
