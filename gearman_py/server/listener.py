"""Sockets: reads go to the broker, what it owes leaves in one write a peer and loop turn.

No task, future or timer is made for a packet. A peer that does not read is not read from
either (so it cannot make the server answer more), and is dropped when even that does not
bound what it is owed: results of jobs it submitted come whether it reads or not.
"""

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Sequence
from math import inf
from typing import cast

from gearman_py.broker.broker import OWED_PAUSE, Broker
from gearman_py.broker.peer import Peer
from gearman_py.protocol.codec import LARGE, MAX_PACKET, Decoder, Message
from gearman_py.protocol.packets import WORKER_REPORTS
from gearman_py.server.keeper import Keeper
from gearman_py.server.vigil import Vigil

log = logging.getLogger("gearmand")

# Close the connection of a peer that is owed more than this ...
OWED_LIMIT = 64 * 2**20
# ... or that has been owed something for so long without reading all of it (seconds).
STALLED_LIMIT = 60.0
# Close the connection of a peer that began a message and has sent no more of it since.
SILENT_LIMIT = 30.0
# How long one that was told to leave may go on sending (seconds).
PARTING_LIMIT = 5.0
# To so many peers is written in one turn of the loop: a job may wake thousands of workers, and
# what others are owed is not to wait for that.
SLICE = 256
# So many descriptors below the limit of open files newcomers are about to be turned away.
SCARCE = 8
WARN_AGAIN = 10.0  # seconds


class Connection(asyncio.Protocol):
    """One peer's connection."""

    transport: asyncio.Transport
    peer: Peer

    def __init__(self, server: "Listener", *, operator: bool = False) -> None:
        self._server = server
        self._operator = operator
        self._decoder = Decoder(text=True, max_packet=server.max_packet)
        self._backlog: Sequence[Message] = ()  # read already, kept while the peer does not read
        self._paused = False  # not read from
        self._heard = 0.0  # when it sent something last
        self.stalled_since: float | None = None  # it is owed more than the buffer should hold
        self._parted_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all the methods, but are not instances of asyncio's classes.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=OWED_PAUSE)
        address = transport.get_extra_info("peername")
        host = str(address[0]) if isinstance(address, tuple) else "unix"
        self._socket = transport.get_extra_info("socket")
        number = self._socket.fileno()
        self.peer = self._server.broker.join(number, host, operator=self._operator)
        self._server.connections[self.peer] = self
        if not self._server.admit(number, operator=self._operator):
            transport.abort()
        log.debug("%s connected", self)

    def connection_lost(self, error: Exception | None) -> None:
        del self._server.connections[self.peer]
        if self._parted_at is None:
            self._server.broker.gone(self.peer, self._server.now())
        if not self._server.flushing:
            self._server.settle()
        log.debug("%s left%s", self, f": {error}" if error else "")

    def data_received(self, data: bytes) -> None:
        self._server.vigil.end()
        if self._parted_at is not None:
            return
        self._heard = self._server.now()
        messages = self._decoder.feed(data)
        if len(data) < LARGE and (
            self._decoder.partial or (messages and messages[-1][0] in WORKER_REPORTS)
        ):
            self._acknowledge()
        if self._decoder.dead and messages:  # none: it was told before, and is being closed
            _, (_, sentence) = messages[-1]
            log.warning("%s sent what is no Gearman packet: %s", self, sentence.decode())
        self._receive(messages)

    def _receive(self, messages: Sequence[Message]) -> None:
        server, peer = self._server, self.peer
        self._backlog = server.broker.receive(peer, messages, server.now())
        if peer.owed > OWED_PAUSE:
            self._pause()
        if not server.flushing:
            server.settle()

    def _acknowledge(self) -> None:
        """Have the peer told at once that what it sent has come: it may send no more until then.

        The kernel does so only after 40 ms where no answer carries the news. A worker without
        TCP_NODELAY (gear, node-gearman) sends its GRAB_JOB so much after its WORK_COMPLETE;
        libgearman, whose send buffer of 32 KiB is less than a segment of the loopback device,
        so much after each 32 KiB.
        """
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def flush(self) -> None:
        """Write what the peer is owed."""
        if self._parted_at is not None:
            self.peer.take()
            return
        if self.peer.owed < LARGE:
            self.transport.write(b"".join(self.peer.take()))
        else:
            self.transport.writelines(self.peer.take())
        if self.stalled_since is not None:
            buffered = self.transport.get_write_buffer_size()
            if buffered > OWED_LIMIT:
                log.warning("%s does not read and is owed %d MiB: closed", self, buffered >> 20)
                self.transport.abort()
        elif self._decoder.dead and not self.peer.promises:
            self._part()
        elif self._paused:
            self._resume()

    def _part(self) -> None:
        """End our side, and hear the peer out: whoever closes on unread bytes resets the
        connection, and what was on its way to the peer is lost (RFC 2525, 2.17)."""
        self._parted_at = self._server.now()
        self._server.broker.gone(self.peer, self._parted_at)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        self.stalled_since = self._server.now()
        self._pause()

    def resume_writing(self) -> None:
        self.stalled_since = None
        self._resume()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def _resume(self) -> None:
        """The peer reads again: go on with what it had sent, then read more."""
        if self._server.stopping:
            return
        self._paused = False
        backlog, self._backlog = self._backlog, ()
        self._receive(backlog)
        if not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def check(self, now: float) -> None:
        """Close it when its peer has not read, or not gone on writing, for too long."""
        if self.stalled_since is not None and now - self.stalled_since > STALLED_LIMIT:
            log.warning("%s has not read for %d s: closed", self, now - self.stalled_since)
            self.transport.abort()
        elif self._partial() and not self._paused and now - self._heard > SILENT_LIMIT:
            log.warning("%s began a message %d s ago: closed", self, now - self._heard)
            self.transport.abort()
        elif self._parted_at is not None and now - self._parted_at > PARTING_LIMIT:
            self.transport.abort()

    def _partial(self) -> bool:
        """Whether the peer began a message that it has not ended."""
        return self._decoder.partial

    def __str__(self) -> str:
        return f"{self.peer.address} (connection {self.peer.number})"


class Listener:
    """All connections of one broker. ``keeper`` makes its jobs durable, if they are to be."""

    keeper: Keeper | None = None
    stopping = False

    def __init__(
        self,
        broker: Broker,
        loop: asyncio.AbstractEventLoop,
        *,
        max_packet: int = MAX_PACKET,
        max_connections: int = 0,
    ) -> None:
        self.broker = broker
        self._most = max_connections
        self.connections: dict[Peer, Connection] = {}
        self.max_packet = max_packet
        self.now = loop.time
        self.vigil = Vigil(loop)
        self._loop = loop
        self.flushing = False
        self._warned = -WARN_AGAIN
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = inf  # when it rings

    def settle(self) -> None:
        """Have every peer that is owed something written to, once, in the next loop turn."""
        self.flushing = True
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write to every peer that is owed something."""
        self.flushing = False
        if self.broker.queues.next_event < self._alarm:
            self._tick()
        dirty = self.broker.dirty
        peers = dirty[:SLICE]
        del dirty[:SLICE]
        for peer in peers:
            connection = self.connections.get(peer)
            if connection is not None and not connection.transport.is_closing():
                connection.flush()
        if peers:
            self.vigil.begin(len(peers))
        if dirty and not self.flushing:
            self.settle()
        if self.keeper is not None:
            self.keeper.look()

    def stop_reading(self) -> None:
        """Hear no more of anybody; what is owed can still be written."""
        self.stopping = True
        for connection in self.connections.values():
            if not connection.transport.is_closing():
                connection.transport.pause_reading()

    def _tick(self) -> None:
        """Let time do its work in the broker, and come back when it has more to do."""
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = self.broker.tick(self.now(), time.time())
        if self._alarm < inf:
            self._timer = self._loop.call_at(self._alarm, self._ring)

    def _ring(self) -> None:
        self._alarm = inf
        self.broker.queues.next_event = -inf
        if not self.flushing:
            self.settle()

    def sweep(self) -> None:
        """Close the connections whose peers have done nothing of what they should for too long."""
        now = self.now()
        for connection in list(self.connections.values()):
            connection.check(now)

    def admit(self, descriptor: int, *, operator: bool) -> bool:
        """Whether there is room for a newcomer; operators may always come.

        Says, at most once in a while, that there is none or soon will be none.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        full = 0 < self._most < len(self.connections) and not operator
        cure = f"there are {self._most} connections: newcomers are turned away (--max-connections)"
        if not full:
            if descriptor < limit - SCARCE:
                return True
            cure = (
                f"{len(self.connections)} connections, and at the limit of {limit} open files: "
                "newcomers are turned away; raise it with --file-descriptors, or LimitNOFILE= of "
                "the unit"
            )
        if self.now() - self._warned > WARN_AGAIN:
            self._warned = self.now()
            log.warning("%s", cure)
        return not full
