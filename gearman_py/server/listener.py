"""The connections of one broker: whose turn it is, and when peers are written to.

What a peer is owed is written once for each turn of the event loop.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, takewhile
from math import inf
from weakref import WeakSet

from gearman_py.broker.broker import Broker
from gearman_py.broker.limits import MAX_OWED
from gearman_py.broker.returning import may_stay, return_jobs
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import LARGE, MAX_PACKET, Message
from gearman_py.server.admission import Admission, Handshakes
from gearman_py.server.busy_poll import BusyPoll
from gearman_py.server.counts import DRAINED, STORE, ServerCounts
from gearman_py.server.pressure import PeerConnection, Pressure
from gearman_py.server.result_budget import ResultBudget
from gearman_py.server.store_writer import StoreWriter
from gearman_py.server.upload_budget import UploadBudget

audit = logging.getLogger("gearmand.audit")
audit.setLevel(logging.INFO)
# How many peers are written to, or checked, in one turn of the loop: a job may wake thousands of
# workers, and others must not wait for that.
SLICE = 256
SLICE_BYTES = 4 * 2**20  # so that no turn takes long
UNCOUNTED = 32  # peers that are written to at once, whatever they are owed
# A peer with more bytes unread than this counts as one that does not read, once memory is scarce.
SCARCE_MAX_OWED = 2**16
# Seconds between two looks at the clients of a draining server.
DRAIN_INTERVAL = 0.1
# Seconds for which a server that ends waits for such clients to close their connections.
LEAVE_TIMEOUT = 0.5
# Seconds for which the messages of one peer are handled at a time, and those of all peers that sent
# many in one turn of the loop. The time is checked after each TOGETHER messages; after each one of
# a worker with more than MANY_FUNCTIONS functions, as it may take a millisecond to find it a job.
TURN = 0.005
TURN_OF_ALL = 0.02
TOGETHER = 64
MANY_FUNCTIONS = 256


class Listener:
    """The connections of one broker. ``store_writer`` stores its background jobs, if given."""

    store_writer: StoreWriter | None = None
    certificate = ""  # its file, with TLS
    stopping = False

    def __init__(
        self,
        broker: Broker,
        loop: asyncio.AbstractEventLoop,
        *,
        max_packet: int = MAX_PACKET,
        max_connections: int = 0,
        max_unread: int = 0,
        unread_timeout: float = 0.0,
    ) -> None:
        self.broker = broker
        self.connections: dict[Peer, PeerConnection] = {}
        self.accepted = WeakSet[PeerConnection]()  # the event loop will make them connections
        self.counts = ServerCounts()
        self.memory_limit = 0
        self.handshakes = Handshakes(loop.time)  # of peers that are not connections yet
        self.admission = Admission(max_connections, self.connections, self.handshakes, loop.time)
        self.max_packet = max_packet
        self.max_unread = max_unread
        self.unread_timeout = unread_timeout
        self.pressure = Pressure(loop, broker.queues)
        self.behind = self.pressure.behind
        self.budget = ResultBudget(loop, broker.queues)
        self.uploads = UploadBudget(loop.time)
        self.high_water = MAX_OWED
        self.now = loop.time
        self.busy_poll = BusyPoll(loop)
        self._loop = loop
        self.flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = inf  # when the timer fires
        self._turn_end = 0.0
        self._draining = asyncio.Event()  # clients are to leave: let_all_go() has to do something
        broker.on_drain = self._draining.set
        self._listings: deque[PeerConnection] = deque()  # whose turn it is first

    def take_turn(self, peer: Peer, messages: Sequence[Message]) -> Sequence[Message]:
        """Pass messages of a peer to the broker, for at most its turn; return the rest."""
        now = self.now()
        began = time.monotonic()  # the clock of the loop may not advance during a turn
        if not self.flushing:
            self._turn_end = began + TURN_OF_ALL
        end = min(began + TURN, self._turn_end)
        together = TOGETHER if len(peer.turns) <= MANY_FUNCTIONS else 1
        for start in range(0, len(messages), together):
            left = self.broker.receive(peer, messages[start : start + together], now)
            following = start + together - len(left)
            if left or time.monotonic() > end:
                return messages[following:]
        return ()

    def weigh_message(self, connection: PeerConnection) -> None:
        """A part of a message has come: have its peer wait unless there is memory for the rest."""
        self.budget.weigh(connection)
        self.uploads.weigh(connection)

    def must_wait(self, connection: PeerConnection) -> bool:
        """Whether its peer waits for memory."""
        return connection in self.budget.waiting or connection in self.uploads.waiting

    def forget_connection(self, connection: PeerConnection) -> None:
        """A connection is gone: what waited for it to read, or to go on, does so no longer."""
        self.pressure.caught_up(connection.peer)
        self.budget.forget_peer(connection)
        self.uploads.forget_peer(connection)

    def continue_listing(self, connection: PeerConnection) -> None:
        """Have a connection go on with its listing; all listings share one turn."""
        self._listings.append(connection)
        if len(self._listings) == 1:
            self._loop.call_soon(self._continue_listings)

    def _continue_listings(self) -> None:
        end = time.monotonic() + TURN
        while self._listings and time.monotonic() < end:
            self._listings[0].go_on()
            self._listings.popleft()
        if self._listings:
            self._loop.call_soon(self._continue_listings)

    def schedule_flush(self) -> None:
        """Have all peers that are owed something written to, once, in the next turn."""
        self.flushing = True
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write to all peers that are owed something."""
        self.flushing = False
        if self.broker.queues.next_event < self._alarm:
            self._run_timers()
        dirty = self.broker.dirty
        count = len(dirty) if len(dirty) <= UNCOUNTED else self._count_slice()
        peers = dirty[:count]
        del dirty[:count]
        for peer in peers:
            connection = self.connections.get(peer)
            if connection is not None and not connection.transport.is_closing():
                connection.flush()
        if peers:
            self.busy_poll.note_write(len(peers))
            if self.broker.draining:
                self._let_clients_go(peers)
        if dirty and not self.flushing:
            self.schedule_flush()
        if self.store_writer is not None:
            self.store_writer.store_next()

    def _let_clients_go(self, peers: Iterable[Peer]) -> None:
        """Give jobs back to clients that submit them elsewhere, and close what is done."""
        for peer in peers:
            connection = self.connections.get(peer)
            if connection is not None and not connection.transport.is_closing():
                if peer.resubmits:
                    return_jobs(self.broker, peer)
                if not may_stay(self.broker, peer):
                    connection.leave_client()

    async def let_all_go(self) -> None:
        """Have clients leave for other servers whenever the broker is draining."""
        while True:
            await self._draining.wait()
            self._draining.clear()
            while self.broker.draining:
                peers = list(self.connections)
                for start in range(0, len(peers), SLICE):
                    self._let_clients_go(peers[start : start + SLICE])
                    if self.broker.dirty and not self.flushing:
                        self.schedule_flush()
                    await asyncio.sleep(0)
                await asyncio.sleep(DRAIN_INTERVAL)

    async def flush_all(self) -> None:
        """Write what peers are owed, as the server ends.

        Clients that are let go may read so: once the process has ended, one that writes first would
        be told of a lost connection.
        """
        if self.broker.draining:
            self._let_clients_go(list(self.connections))
        while self.broker.dirty:
            self.flush()
        end = self.now() + LEAVE_TIMEOUT
        while self.now() < end and any(  # noqa: ASYNC110 - most often none is
            connection.closed_for == DRAINED and peer.resubmits
            for peer, connection in self.connections.items()
        ):
            await asyncio.sleep(0.01)

    def _count_slice(self) -> int:
        """How many of the peers that are owed something are written to in one turn.

        If they are owed much, those that are owed little come first.
        """
        dirty = self.broker.dirty
        if sum(peer.owed for peer in islice(dirty, SLICE)) <= SLICE_BYTES:
            return SLICE
        dirty.sort(key=lambda peer: peer.owed >= LARGE)
        owed = accumulate(peer.owed for peer in islice(dirty, SLICE))
        return max(1, sum(1 for _ in takewhile(SLICE_BYTES.__ge__, owed)))

    def share_memory(self, used: int, limit: int) -> int:
        """Bound what readers have unread by the bytes until the limit of memory.

        Return how many bytes are missing for a result or a job that waits for memory.
        """
        self.memory_limit = limit
        scarce = used > limit / 2
        self.pressure.share_memory(limit - used, scarce=scarce)
        missing = self.budget.share_memory(used, limit, self.pressure.stalled.values())
        high_water = SCARCE_MAX_OWED if scarce else MAX_OWED
        if high_water != self.high_water:
            self.high_water = high_water
            for connection in self.connections.values():
                connection.check_unsent()
        if self.broker.dirty and not self.flushing:  # workers were woken for jobs that were held
            self.schedule_flush()
        return missing

    def hang_up(self, peer: Peer) -> None:
        """Close the connection of a peer, after what it can be told."""
        connection = self.connections.get(peer)
        if connection is not None and not connection.transport.is_closing():
            connection.flush()
            connection.closed_for = STORE
            connection.transport.close()

    def log_change(self, peer: Peer, command: bytes) -> None:
        """Record who gave a text command that changes something, whatever else is logged."""
        text = command.decode(errors="backslashreplace")
        audit.info("%s: %s", self.connections.get(peer, peer.address), text)

    def stop_reading(self) -> None:
        """Stop reading from peers; they can still be written to."""
        self.stopping = True
        for connection in self.connections.values():
            if not connection.transport.is_closing():
                connection.transport.pause_reading()

    def _run_timers(self) -> None:
        """Have the broker do what is due, and schedule the next time."""
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = self.broker.tick(self.now(), time.time())
        if self._alarm < inf:
            self._timer = self._loop.call_at(self._alarm, self._timer_fired)

    def _timer_fired(self) -> None:
        self._alarm = inf
        self.broker.queues.next_event = -inf
        if not self.flushing:
            self.schedule_flush()

    async def close_lost_peers(self) -> None:
        """Close the connections of peers that have not read or written for too long."""
        connections = list(self.connections.values())
        for start in range(0, len(connections), SLICE):
            now = self.now()
            for connection in connections[start : start + SLICE]:
                if connection.peer in self.connections:
                    connection.check_peer(now)
            await asyncio.sleep(0)
