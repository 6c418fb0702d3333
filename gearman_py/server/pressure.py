"""Back pressure: a worker is not read from while the client that its results go to is behind.

So a client that reads slower than its results come gets all of them, and costs a bounded amount
of memory. A client that hardly reads at all must not hold up a worker that others need too: for
that one memory is spent instead, until it reads again or ``--max-memory`` closes its connection.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gearman_py.broker.peer import Peer
from gearman_py.protocol.codec import Message
from gearman_py.protocol.packets import WORKER_REPORTS

BEHIND = 16 * 2**20  # a client that has so many bytes unread is behind
LOOK = 1.0  # seconds between two looks at how much those who are behind have read
LEAST_READ = 256 * 1024  # bytes that it must read until the next look to be waited for ...
PATIENCE = 20.0  # ... and no longer than this: our workers wait 30 s for an answer


class Connection(Protocol):
    """What is needed to know of a connection."""

    peer: Peer

    def unread(self) -> int: ...

    def resume(self) -> None: ...


@dataclass
class _Wait:
    reader: Connection
    unread: int  # at the last look
    since: float
    workers: dict[Connection, None] = field(default_factory=dict)


class Pressure:
    """Who is behind, and which workers' connections wait for that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.behind: dict[Peer, _Wait] = {}
        self._hopeless: set[Peer] = set()  # hardly read, and are waited for no more
        self._timer: asyncio.TimerHandle | None = None

    def note(self, reader: Connection) -> None:
        """A reader was written to and has not read all: see whether it is behind now."""
        peer, unread = reader.peer, reader.unread()
        if unread > BEHIND and peer not in self.behind and peer not in self._hopeless:
            self.behind[peer] = _Wait(reader, unread, self._loop.time())
            self._timer = self._timer or self._loop.call_later(LOOK, self._look)

    def holds(self, worker: Connection, messages: Sequence[Message]) -> bool:
        """Whether this worker's messages must wait; if so it is resumed when they may come."""
        running = worker.peer.running
        for number, arguments in messages:
            if number in WORKER_REPORTS and (job := running.get(arguments[0])):
                for client in job.clients:
                    if client in self.behind and client is not worker.peer:
                        self.behind[client].workers[worker] = None
                        return True
        return False

    def caught_up(self, peer: Peer) -> None:
        """The reader has read what it was owed, or is gone."""
        self._hopeless.discard(peer)
        self._let_go(peer)

    def _let_go(self, peer: Peer) -> None:
        if wait := self.behind.pop(peer, None):
            for worker in wait.workers:
                worker.resume()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for peer, wait in list(self.behind.items()):
            unread = wait.reader.unread()
            if unread < BEHIND:
                self._let_go(peer)
            elif wait.unread - unread < LEAST_READ or now - wait.since > PATIENCE:
                self._hopeless.add(peer)
                self._let_go(peer)
            wait.unread = unread
        if self.behind:
            self._timer = self._loop.call_later(LOOK, self._look)
