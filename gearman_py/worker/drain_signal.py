"""Wakes threads and processes that wait between two attempts when the worker drains."""

import select
import socket
from threading import Lock


class DrainSignal:
    """A socket that is closed when the drain starts; processes forked earlier notice that too."""

    def __init__(self) -> None:
        self._watched, self._held = socket.socketpair()
        self._lock = Lock()
        self._waiting = 0  # threads
        self._closed = False

    def start_drain(self) -> None:
        """Start the drain, from any thread. A forked process that only waits calls it too."""
        with self._lock:
            self._held.close()

    def wait_for_drain(self, seconds: float) -> bool:
        """Wait for ``seconds``, or until the worker drains; return whether it drains."""
        with self._lock:
            if self._closed:
                return True
            self._waiting += 1
        try:
            poll = select.poll()
            poll.register(self._watched, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            with self._lock:
                self._waiting -= 1
                self._close_unused()

    def close(self) -> None:
        """Close the socket, as soon as no thread is waiting."""
        self.start_drain()
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._waiting:
            self._watched.close()
