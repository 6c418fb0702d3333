"""Limits the number of connections and handshakes, and watches the number of file descriptors."""

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable, Iterator, Sized

log = logging.getLogger("gearmand")

# Descriptors below the limit of open files that are left to operators, metrics and our own files.
RESERVED = 8
WARN_INTERVAL = 10.0  # seconds
# TLS handshakes at a time. OpenSSL may hold 170 KB for one, long before it knows the peer.
MAX_HANDSHAKES = 512
# Seconds for which each is waited for; then it ends if another peer needs its place.
HANDSHAKE_GRACE = 1.0


class Handshakes:
    """TLS handshakes in progress, at most ``most``."""

    def __init__(self, now: Callable[[], float], most: int = MAX_HANDSHAKES) -> None:
        self._now = now
        self._most = most
        self.arriving = 0  # connections that were accepted and wait for room
        # Seconds for which each has waited for its peer: its turn may be late, which is our doing.
        self._waited: dict[asyncio.Task[None] | None, float] = {}
        self._waiting: dict[asyncio.Task[None] | None, float] = {}  # since when
        # Whose computation it is: one takes about a millisecond, and others are served in between.
        self.turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waited)

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """While a connection that was accepted waits for room."""
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    def add(self, handshake: asyncio.Task[None]) -> None:
        """Count it until it has ended."""
        self._waited[handshake] = 0.0
        handshake.add_done_callback(lambda _: self._waited.pop(handshake, None))

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While the handshake that is this task waits for its peer."""
        handshake = asyncio.current_task()
        self._waiting[handshake] = since = self._now()
        try:
            yield
        finally:
            self._waiting.pop(handshake, None)
            if handshake in self._waited:
                self._waited[handshake] += self._now() - since

    def has_room(self) -> bool:
        """Whether another one may begin."""
        return len(self) < self._most or self.make_room()

    def make_room(self) -> bool:
        """End the first one that was waited for as long as it may be; return whether there is."""
        now = self._now()
        for handshake, since in self._waiting.items():
            if handshake and self._waited[handshake] + now - since >= HANDSHAKE_GRACE:
                del self._waited[handshake], self._waiting[handshake]
                handshake.cancel()
                return True
        return False


class Admission:
    """Admits ``most`` connections (0: no limit); TLS ``handshakes`` count as connections.

    Logs, at most every WARN_INTERVAL seconds, that connections are refused.
    """

    def __init__(
        self, most: int, connections: Sized, handshakes: Handshakes, now: Callable[[], float]
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
        connected = len(self._connections)
        full = 0 < self._most <= connected + len(self._handshakes)
        if full and (connected >= self._most or not self._handshakes.make_room()):
            self._warn_full()
            return False
        return not self._is_reserved(descriptor)

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
