"""Which of several servers a job goes to, and when one that failed is tried again.

Jobs of one unique go to one server, or they could not share a run: the one that rendezvous
hashing names among those that are not avoided. Others go to the server with the fewest jobs
of ours in flight, in turn where that is equal.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from types import EllipsisType
from typing import Literal, Protocol, TypeVar

from gearman_py.client.arguments import Timeout
from gearman_py.net.servers import Server
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import Serializer

LARGEST_PACKET = 2**32 - 1  # bytes: a header counts with 32 bits
_FIRST, _LONGEST = 0.1, 30.0  # seconds for which a server that failed is avoided


@dataclass(frozen=True, slots=True)
class Retry:
    """How often all servers are tried: ``attempts`` rounds, with a pause of ``first`` seconds
    after the first of them, twice as long each time, up to ``most``. Raises ValueError."""

    attempts: int = 3
    first: float = 0.1
    most: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts!r}: servers are tried once at least")
        if min(self.first, self.most) < 0:
            raise ValueError(f"{self!r}: a pause is 0 seconds or more")

    def pause(self, attempt: int) -> float:
        """The seconds to wait after round ``attempt`` (from 1), spread by a fifth."""
        length = min(self.most, self.first * 2.0 ** (attempt - 1))
        return length * random.uniform(0.8, 1.2)  # noqa: S311  no secret: it spreads


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What a client was told of servers, limits (seconds), and its jobs; see Client.

    Raises ValueError or TypeError for what would go wrong later.
    """

    servers: list[Server]
    connect_timeout: float
    submit_timeout: float
    timeout: float | None
    retry: Retry
    on_lost: Literal["raise", "resubmit"]
    prefix: str
    serializer: Serializer
    max_packet: int = MAX_PACKET

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "submit_timeout"):
            if not (seconds := getattr(self, name)) > 0:
                raise ValueError(f"{name}={seconds!r}: expected seconds, more than 0")
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout={self.timeout!r}: expected seconds, or None for no limit")
        if not isinstance(self.retry, Retry):
            raise TypeError(f"retry={self.retry!r}: expected a Retry, such as Retry(attempts=5)")
        if self.on_lost not in ("raise", "resubmit"):
            raise ValueError(f"on_lost={self.on_lost!r}: expected raise or resubmit")
        if "\0" in self.prefix:
            raise ValueError(f"prefix={self.prefix!r} holds a NUL, which ends names on the wire")
        if not all(callable(getattr(self.serializer, name, None)) for name in ("dumps", "loads")):
            text = f"serializer={self.serializer!r}: expected an object with dumps() and loads()"
            raise TypeError(text)
        if not 1 <= self.max_packet <= LARGEST_PACKET:
            raise ValueError(
                f"max_packet={self.max_packet!r}: expected 1 to {LARGEST_PACKET} bytes"
            )

    @property
    def resubmits(self) -> int:
        """How often a job may be submitted again when its server is lost."""
        return self.retry.attempts if self.on_lost == "resubmit" else 0

    def limit(self, timeout: Timeout) -> float | None:
        """The seconds that ``timeout`` stands for."""
        return self.timeout if isinstance(timeout, EllipsisType) else timeout


class HasKey(Protocol):
    """A job, as far as its way to a server goes."""

    @property
    def key(self) -> bytes | None:
        """What it has in common with jobs that can share its run; None: there can be none."""


J = TypeVar("J", bound=HasKey)


class Router:
    """Orders servers for each job; ``load`` tells how many jobs are in flight to one."""

    def __init__(self, servers: list[Server], load: Callable[[Server], int]) -> None:
        self.servers = servers
        self._load = load
        self._failures: dict[Server, int] = {}
        self._avoid: dict[Server, float] = {}  # until when
        # Programs that submit one job each would else all begin with the same server.
        self._turn = random.randrange(1 + len(servers))  # noqa: S311  no secret: it spreads

    def order(self, now: float, key: bytes | None = None) -> list[Server]:
        """Every server once, best first; those that failed lately come last. ``key`` is what
        jobs that belong together have in common."""
        if len(self.servers) == 1:
            return self.servers
        avoided = {server: self._avoid.get(server, 0.0) > now for server in self.servers}
        if key is not None:
            weight = {server: _weight(server, key) for server in self.servers}
            return sorted(self.servers, key=lambda server: (avoided[server], weight[server]))
        self._turn += 1
        turned = self._turn % len(self.servers)
        in_turn = self.servers[turned:] + self.servers[:turned]
        return sorted(in_turn, key=lambda server: (avoided[server], self._load(server)))

    def groups(self, jobs: Iterable[J], now: float) -> list[tuple[list[Server], list[J]]]:
        """The jobs by the server that they go to first: the order of servers, and who goes so."""
        found: dict[Server, tuple[list[Server], list[J]]] = {}
        for job in jobs:
            order = self.order(now, job.key)
            found.setdefault(order[0], (order, []))[1].append(job)
        return list(found.values())

    def named(self, server: str | None) -> list[Server]:
        """The server of that name; all for None."""
        return [one for one in self.servers if server in (None, str(one))]

    def failed(self, server: Server, now: float) -> None:
        """``server`` could not be reached: avoid it for 0.1 s, then twice as long, up to 30 s."""
        count = self._failures[server] = self._failures.get(server, 0) + 1
        length = min(_LONGEST, _FIRST * 2.0 ** min(count, 10))
        self._avoid[server] = now + length * random.uniform(0.8, 1.2)  # noqa: S311  it spreads

    def reached(self, server: Server) -> None:
        """``server`` answers."""
        self._failures.pop(server, None)
        self._avoid.pop(server, None)


def _weight(server: Server, key: bytes) -> bytes:
    """A CRC would not do: it is linear, and would give one of three servers half of the keys."""
    return blake2b(str(server).encode() + b"\0" + key, digest_size=8).digest()


def key_of(function: str, unique: str, workload: bytes) -> bytes | None:
    """What jobs that could share a run have in common; None for one that shares with none."""
    if not unique:
        return None
    text = f"{function}\0{unique}\0".encode(errors="surrogateescape")
    return text + workload if unique == "-" else text
