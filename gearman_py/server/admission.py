"""Whether there is room for newcomers: connections, and descriptors for them."""

import logging
import resource
from collections.abc import Callable, Sized

log = logging.getLogger("gearmand")

# So many descriptors below the limit of open files newcomers are about to be turned away.
SCARCE = 8
WARN_AGAIN = 10.0  # seconds


class Room:
    """For so many connections at ``most`` (0: any number); ``handshakes`` are about to be some.

    Says, at most once in a while, that there is no room or soon will be none.
    """

    def __init__(
        self, most: int, connections: Sized, handshakes: Sized, now: Callable[[], float]
    ) -> None:
        self._most = most
        self._connections, self._handshakes = connections, handshakes
        self._now = now
        self._warned = -WARN_AGAIN

    def admit(self, descriptor: int, *, operator: bool) -> bool:
        """Whether a newcomer, who is counted already, may stay; operators always may."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if not operator and 0 < self._most < len(self._connections):
            self._turned_away()
            return False
        if descriptor >= limit - SCARCE:
            self._warn(
                f"{len(self._connections)} connections, and at the limit of {limit} open files: "
                "newcomers are turned away; raise it with --file-descriptors, or LimitNOFILE= of "
                "the unit"
            )
        return True

    def has_room(self) -> bool:
        """Whether one more may begin its handshake."""
        full = 0 < self._most <= len(self._connections) + len(self._handshakes)
        if full:
            self._turned_away()
        return not full

    def _turned_away(self) -> None:
        self._warn(
            f"there are {self._most} connections: newcomers are turned away (--max-connections)"
        )

    def _warn(self, why: str) -> None:
        if self._now() - self._warned > WARN_AGAIN:
            self._warned = self._now()
            log.warning("%s", why)
