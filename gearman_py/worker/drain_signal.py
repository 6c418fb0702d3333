"""The word that a worker drains, for whoever rests: its threads and its processes."""

import select
import socket
from threading import Lock


class Leaving:
    """Its end is a socket that closes, which processes forked meanwhile see too."""

    def __init__(self) -> None:
        self._watch, self._hold = socket.socketpair()
        self._lock = Lock()

    def begin(self) -> None:
        """The worker drains. From any thread; a forked process that only watches calls it too."""
        with self._lock:
            self._hold.close()

    def wait(self, seconds: float) -> bool:
        """Rest for so long, or until the worker drains; whether it does."""
        poll = select.poll()
        poll.register(self._watch, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Nobody rests any more."""
        self.begin()
        self._watch.close()
