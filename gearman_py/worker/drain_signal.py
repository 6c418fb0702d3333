"""Wakes threads and processes that wait between two attempts when the worker drains."""

import select
import socket
from threading import Lock


class DrainSignal:
    """A socket that is closed when the drain starts; processes forked earlier notice that too."""

    def __init__(self) -> None:
        self._watched, self._held = socket.socketpair()
        self._lock = Lock()

    def start_drain(self) -> None:
        """Start the drain, from any thread. A forked process that only waits calls it too."""
        with self._lock:
            self._held.close()

    def wait_for_drain(self, seconds: float) -> bool:
        """Wait for ``seconds``, or until the worker drains; return whether it drains."""
        poll = select.poll()
        poll.register(self._watched, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close the socket, once no thread is waiting."""
        self.start_drain()
        self._watched.close()
