"""What a worker's log says of its job servers: one line of what all its slots see at once."""

import logging
from threading import Lock
from time import monotonic

from gearman_py.net.servers import ServerAddress, describe_failure

_log = logging.getLogger("gearman_py.worker")


class ServerLog:
    """Shared by the slots of a worker, each of which has connections of its own; thread-safe."""

    def __init__(self) -> None:
        self._registered: set[ServerAddress] = set()
        self._told: dict[str, float] = {}
        self._lock = Lock()

    def note_registered(self, server: ServerAddress) -> None:
        """A slot is registered with the server."""
        with self._lock:
            is_news = server not in self._registered
            self._registered.add(server)
            self._told.clear()
        if is_news:
            _log.info("registered with %s", server)

    def note_failure(
        self, server: ServerAddress, error: Exception, timeout: float, pause: float
    ) -> None:
        """A slot has lost or not reached the server, and tries again in ``pause`` seconds.

        ``timeout`` is what connecting had. A failure that was told is not told of other slots
        before that time is over.
        """
        failure, now = describe_failure(server, error, timeout), monotonic()
        with self._lock:
            self._registered.discard(server)
            is_news = self._told.get(failure, now) <= now
            if is_news:
                self._told[failure] = now + pause
        if is_news:
            _log.warning("%s; trying again in %.1f s", failure, pause)
