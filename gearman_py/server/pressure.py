"""Back pressure: a worker is not read from while the client that waits for its results is behind.

A client that reads more slowly than its results arrive therefore gets all of them, at a bounded
cost of memory. A client that hardly reads at all must not hold up a worker that others need too:
its results are buffered instead, until it reads again.

When memory becomes scarce, each client may leave less unread, and jobs that only such clients
wait for are withheld until one of them has caught up or memory is free again. ``--max-memory``
closes connections only if that was not enough.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gearman_py.broker.queues import Queues
from gearman_py.broker.state import BrokerJob, Peer
from gearman_py.protocol.codec import Message
from gearman_py.protocol.packets import WORKER_REPORTS
from gearman_py.server.result_budget import Bringer

MAX_UNREAD = 16 * 2**20  # a client with more bytes unread is behind
LOOK_INTERVAL = 1.0  # seconds between two checks of how much the clients that are behind have read
LEAST_CHECKED = 0.9  # seconds: one that was behind for less is not judged
LEAST_READ = 256 * 1024  # bytes that a client must read between two checks to be waited for ...
LONGEST_WAIT = 20.0  # ... at most this many seconds: our workers wait 30 s for answers


class PeerConnection(Bringer, Protocol):
    """A peer's connection, as the rest of the server sees it."""

    received: int  # bytes
    closed_for: str

    def abort(self, why: str) -> None: ...

    def user(self) -> str: ...

    def flush(self) -> None: ...

    def leave_client(self) -> None: ...

    def go_on(self) -> None: ...

    def check_peer(self, now: float) -> None: ...

    def check_unsent(self) -> None: ...

    def held_bytes(self) -> int: ...

    def missing_bytes(self) -> int: ...

    def has_unacknowledged(self) -> bool: ...

    def standstill(self, now: float) -> float: ...


@dataclass
class _ReaderWait:
    reader: PeerConnection
    unread: int  # bytes at the last check ...
    checked: float  # ... and when that was
    since: float
    workers: dict[PeerConnection, None] = field(default_factory=dict)


class Pressure:
    """The clients that are behind, and the workers and jobs that wait for them.

    ``most_unread``: a client with more unread bytes than this is behind.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, queues: Queues) -> None:
        self._loop = loop
        self._queues = queues
        self.most_unread = MAX_UNREAD
        self.scarce = False
        self.behind: dict[Peer, _ReaderWait] = {}
        self.stalled: dict[Peer, PeerConnection] = {}  # clients with unread bytes
        self._hopeless: set[Peer] = set()  # hardly read: workers do not wait for them
        # Clients whose jobs are withheld, and those jobs.
        self._withheld: dict[Peer, tuple[PeerConnection, list[BrokerJob]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note_unread(self, reader: PeerConnection) -> None:
        """Note that a reader has not read everything it was sent, and whether it is now behind."""
        peer, unread = reader.peer, reader.unread_bytes()
        self.stalled[peer] = reader
        if self.scarce:
            self.withhold_jobs(reader)
        if unread <= self.most_unread:
            return
        if self.most_unread < MAX_UNREAD:
            self.withhold_jobs(reader)
        if peer not in self.behind and peer not in self._hopeless:
            now = self._loop.time()
            self.behind[peer] = _ReaderWait(reader, unread, now, now)
        self._timer = self._timer or self._loop.call_later(LOOK_INTERVAL, self._look_again)

    def share_memory(self, room: int, *, scarce: bool) -> None:
        """Bound what each client may leave unread, so that all stay within ``room`` bytes.

        ``scarce``: jobs are withheld even from a client whose unread results are all in the
        kernel's buffer.
        """
        self.scarce = scarce
        # The first clients must leave some room for those that fall behind later.
        self.most_unread = min(MAX_UNREAD, max(room, 0) // (8 * (1 + len(self.stalled))))
        if self.most_unread < MAX_UNREAD:
            for reader in self.stalled.values():
                self.note_unread(reader)
        for peer, (reader, _) in list(self._withheld.items()):
            if peer not in self.stalled and not (scarce and reader.has_unacknowledged()):
                self._release_jobs(peer)

    def must_wait(self, worker: PeerConnection, messages: Sequence[Message]) -> bool:
        """Return whether these messages must wait; if so, the worker is resumed later."""
        running = worker.peer.running
        for number, arguments in messages:
            if number in WORKER_REPORTS and (job := running.get(arguments[0])):
                for client in job.clients:
                    if client in self.behind and client is not worker.peer:
                        self.behind[client].workers[worker] = None
                        return True
        return False

    def caught_up(self, peer: Peer) -> None:
        """Note that a reader has read everything it was sent, or has left."""
        self.stalled.pop(peer, None)
        self._hopeless.discard(peer)
        self._let_go(peer)
        self._release_jobs(peer)

    def _let_go(self, peer: Peer) -> None:
        if wait := self.behind.pop(peer, None):
            for worker in wait.workers:
                worker.resume_peer()

    def withhold_jobs(self, reader: PeerConnection) -> None:
        """Withhold the jobs that only clients like this one wait for."""
        peer = reader.peer
        if peer in self._withheld:
            return
        jobs = [job for job in peer.waiting if job.queued and not self._is_wanted(job, peer)]
        jobs.sort(key=lambda job: job.number)
        self._withheld[peer] = reader, jobs
        for job in jobs:
            self._queues.withhold(job)
        self._timer = self._timer or self._loop.call_later(LOOK_INTERVAL, self._look_again)

    def _release_jobs(self, peer: Peer) -> None:
        _, jobs = self._withheld.pop(peer, (None, ()))
        for job in jobs:
            self._queues.release(job, self._loop.time())

    def _is_wanted(self, job: BrokerJob, behind: Peer | None = None) -> bool:
        """Return whether anything but clients that are behind needs this job."""
        return job.background or not all(
            client is behind or client in self._withheld for client in job.clients
        )

    def _look_again(self) -> None:
        self._timer = None
        now = self._loop.time()
        for peer, wait in list(self.behind.items()):
            unread = wait.reader.unread_bytes()
            if unread < self.most_unread:
                self._let_go(peer)
            elif now - wait.checked < LEAST_CHECKED:
                continue
            elif wait.unread - unread < LEAST_READ or now - wait.since > LONGEST_WAIT:
                self._hopeless.add(peer)
                self._let_go(peer)
            wait.unread, wait.checked = unread, now
        for _, jobs in self._withheld.values():
            wanted = [job for job in jobs if self._is_wanted(job)]  # others have joined
            for job in wanted:
                jobs.remove(job)
                self._queues.release(job, now)
        if self.behind or self._withheld:
            self._timer = self._loop.call_later(LOOK_INTERVAL, self._look_again)
