"""Limits the number of connections and watches the number of file descriptors."""

import logging
import resource
from collections.abc import Callable, Sized

log = logging.getLogger("gearmand")

# Descriptors below the limit of open files that are left to operators, metrics and our own files.
RESERVED = 8
WARN_INTERVAL = 10.0  # seconds


class Admission:
    """Admits ``most`` connections (0: no limit); TLS ``handshakes`` count as connections.

    Logs, at most every WARN_INTERVAL seconds, that connections are refused.
    """

    def __init__(
        self, most: int, connections: Sized, handshakes: Sized, now: Callable[[], float]
    ) -> None:
        self._most = most
        self._connections, self._handshakes = connections, handshakes
        self._now = now
        self._warned = -WARN_INTERVAL

    def admit(self, descriptor: int, *, operator: bool) -> bool:
        """Whether a new connection, already counted, may stay; those of operators always may."""
        if operator:
            return True
        if 0 < self._most < len(self._connections):
            self._warn_full()
            return False
        return not self._is_reserved(descriptor)

    def has_room(self, descriptor: int) -> bool:
        """Whether another peer may begin its handshake."""
        full = 0 < self._most <= len(self._connections) + len(self._handshakes)
        if full:
            self._warn_full()
        return not full and not self._is_reserved(descriptor)

    def _is_reserved(self, descriptor: int) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptor < limit - RESERVED:
            return False
        self._warn_rarely(
            f"{len(self._connections)} connections, and at the limit of {limit} open files: "
            "refusing new connections; raise it with --file-descriptors, or LimitNOFILE= of "
            "the unit"
        )
        return True

    def _warn_full(self) -> None:
        self._warn_rarely(f"{self._most} connections: refusing new ones (--max-connections)")

    def _warn_rarely(self, why: str) -> None:
        if self._now() - self._warned > WARN_INTERVAL:
            self._warned = self._now()
            log.warning("%s", why)
