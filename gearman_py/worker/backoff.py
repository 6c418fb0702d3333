"""How long to wait before the next attempt: longer each time, with a jitter."""

import random

FIRST_RECONNECT, LONGEST_RECONNECT = 0.1, 30.0  # seconds between attempts to reach a server


class Backoff:
    """Pauses of ``first`` seconds, then twice as long each time, up to ``most``.

    Each varies by up to a fifth, so that workers that lost the same server do not all reconnect
    at the same moment.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._next = first

    def next(self) -> float:
        """The seconds to wait now."""
        pause = add_jitter(self._next)
        self._next = min(self._most, self._next * 2)
        return pause

    def reset(self) -> None:
        """An attempt has succeeded: start with the shortest pause again."""
        self._next = self._first


def add_jitter(seconds: float) -> float:
    """More or less, by up to a fifth."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311  not a secret


def reconnect_backoff() -> Backoff:
    """How long a worker waits before it connects to a lost server again."""
    return Backoff(FIRST_RECONNECT, LONGEST_RECONNECT)
