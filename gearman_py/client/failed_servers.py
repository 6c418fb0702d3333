"""How long a client waits before it tries a server again that failed."""

import random

from gearman_py.net.servers import ServerAddress

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds


class FailedServers:
    """The servers that are avoided for now.

    A server that fails again is avoided for twice as long as before. Each time varies by up to a
    fifth, so that clients do not all return to it at the same moment.
    """

    def __init__(self) -> None:
        self._failures: dict[ServerAddress, int] = {}
        self._until: dict[ServerAddress, float] = {}

    def add(self, server: ServerAddress, now: float) -> None:
        """``server`` has failed."""
        count = self._failures[server] = self._failures.get(server, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count, 10))
        self._until[server] = now + pause * random.uniform(0.8, 1.2)  # noqa: S311  not a secret

    def discard(self, server: ServerAddress) -> None:
        """``server`` answers."""
        if self._failures:
            self._failures.pop(server, None)
            self._until.pop(server, None)

    def is_avoided(self, server: ServerAddress, now: float) -> bool:
        return self._until.get(server, 0.0) > now
