"""Which of several servers a job goes to.

Jobs of one unique go to one server, or they could not share a run: the one that rendezvous
hashing picks among those that are not avoided. Other jobs go to the server with the fewest of
our jobs in flight, in turn where that is equal.
"""

import random
from collections.abc import Callable, Container
from hashlib import blake2b
from typing import Protocol, TypeVar

from gearman_py.client.failed_servers import FailedServers
from gearman_py.net.servers import ServerAddress


class HasKey(Protocol):
    """What routing needs to know about a job."""

    @property
    def _routing_key(self) -> bytes | None:
        """Equal for jobs that can share a run; None for a job that cannot."""


J = TypeVar("J", bound=HasKey)


class Router:
    """Orders servers for each job; ``load`` returns the number of jobs in flight to a server."""

    def __init__(self, servers: list[ServerAddress], load: Callable[[ServerAddress], int]) -> None:
        self.servers = servers
        self._load = load
        self._failed = FailedServers()
        # Otherwise all programs that submit a single job would start with the same server.
        self._turn = random.randrange(1 + len(servers))  # noqa: S311  not a secret

    def order_servers(self, now: float, key: bytes | None = None) -> list[ServerAddress]:
        """Every server once, best first; those that failed recently come last. Jobs with the
        same ``key`` get the same order."""
        if len(self.servers) == 1:
            return self.servers
        avoided = {server: self._failed.is_avoided(server, now) for server in self.servers}
        if key is not None:
            weight = {server: _rendezvous_weight(server, key) for server in self.servers}
            return sorted(self.servers, key=lambda server: (avoided[server], weight[server]))
        self._turn += 1
        turned = self._turn % len(self.servers)
        in_turn = self.servers[turned:] + self.servers[:turned]
        return sorted(in_turn, key=lambda server: (avoided[server], self._load(server)))

    def group_jobs(self, jobs: list[J], now: float) -> list[tuple[list[ServerAddress], list[J]]]:
        """The jobs grouped by their first server: each group with its order of servers."""
        if jobs and len(self.servers) == 1:
            return [(self.servers, jobs)]
        found: dict[ServerAddress, tuple[list[ServerAddress], list[J]]] = {}
        for job in jobs:
            order = self.order_servers(now, job._routing_key)
            found.setdefault(order[0], (order, []))[1].append(job)
        return list(found.values())

    def find_servers(self, server: str | None) -> list[ServerAddress]:
        """The server with that name; all for None."""
        return [one for one in self.servers if server in (None, str(one))]

    def mark_failed(self, server: ServerAddress, now: float) -> None:
        """``server`` could not be reached: avoid it for a while."""
        self._failed.add(server, now)

    def mark_refusing(self, names: Container[str], now: float) -> None:
        """The servers with these names did not queue a job: avoid them for a moment."""
        for server in self.servers:
            if str(server) in names:
                self.mark_failed(server, now)

    def mark_reached(self, server: ServerAddress) -> None:
        """``server`` answers."""
        self._failed.discard(server)


def _rendezvous_weight(server: ServerAddress, key: bytes) -> bytes:
    """Not a CRC: it is linear, and would give one of three servers half of the keys."""
    return blake2b(str(server).encode() + b"\0" + key, digest_size=8).digest()


def key_of(function: str, unique: str, workload: bytes) -> bytes | None:
    """Equal for jobs that can share a run; None for a job that cannot."""
    if not unique:
        return None
    text = f"{function}\0{unique}\0".encode(errors="surrogateescape")
    return text + workload if unique == "-" else text
