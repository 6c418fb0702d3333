"""Sockets: reads go to the broker, what it owes leaves in one write a peer and loop turn.

No task, future or timer is made for a packet. A peer that does not read is not read from
either (so it cannot make the server answer more). What it is owed is then bounded by not reading
from the workers that have results for it (gearman_py.server.pressure).
"""

import asyncio
import fcntl
import logging
import socket
import termios
import time
from array import array
from collections.abc import Sequence
from math import inf
from typing import cast

from gearman_py.broker.broker import Broker
from gearman_py.broker.limits import MAX_OWED
from gearman_py.broker.state import Peer
from gearman_py.net import keepalive
from gearman_py.protocol.codec import LARGE, MAX_PACKET, Decoder, Message
from gearman_py.protocol.packets import OVERSIZED, TEXT, WORKER_REPORTS
from gearman_py.server.admission import Room
from gearman_py.server.busy_poll import Vigil
from gearman_py.server.pressure import Pressure
from gearman_py.server.store_writer import Keeper

log = logging.getLogger("gearmand")

# Close the connection of a peer that for so long (seconds) ...
SILENT_LIMIT = 30.0
# ... sent less than this of a message that it has begun (bytes a second).
LEAST_RATE = 1024
# How long one that was told to leave may go on sending (seconds).
PARTING_LIMIT = 5.0
# So many peers are written to, or looked at, in one turn of the loop: a job may wake thousands of
# workers, and what others are owed is not to wait for that.
SLICE = 256
# A peer with more bytes unread than this counts as one that does not read, once memory is scarce.
OWED_PAUSE_SCARCE = 2**16
# Seconds for which one peer's messages are served at a time, and those of all who sent many in a
# turn of the loop; the time is looked at after each TOGETHER messages.
TURN = 0.005
TURN_OF_ALL = 0.02
TOGETHER = 64


class Connection(asyncio.Protocol):
    """One peer's connection."""

    transport: asyncio.Transport
    peer: Peer

    def __init__(self, server: "Listener", *, operator: bool = False) -> None:
        self._server = server
        self._operator = operator
        self._decoder = Decoder(text=True, max_packet=server.max_packet, skips_oversized=True)
        self._backlog: Sequence[Message] = ()  # read already, kept while the peer does not read
        self._paused = False  # not read from
        self._in_turn = False  # what it sent is more than one turn's; it is to be gone on with
        self._received = 0  # bytes
        self._checked = (0, 0, 0.0)  # messages begun, bytes received, when: it was in time then
        self.stalled_since: float | None = None  # it is owed more than the buffer should hold
        self._unread = 0  # bytes of that, when it was looked at last
        self._parted_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all the methods, but are not instances of asyncio's classes.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._server.high_water)
        address = transport.get_extra_info("peername")
        host = str(address[0]) if isinstance(address, tuple) else "unix"
        theirs = transport.get_extra_info("socket")
        number = theirs.fileno()
        # uvloop's own duplicates the descriptor for each option that is asked or set.
        self._socket = socket.socket(theirs.family, theirs.type, theirs.proto, fileno=number)
        self.peer = self._server.broker.join(number, host, operator=self._operator)
        self._server.connections[self.peer] = self
        self._checked = (0, 0, self._server.now())
        if not self._server.room.admit(number, operator=self._operator):
            transport.abort()
        log.debug("%s connected", self)

    def connection_lost(self, error: Exception | None) -> None:
        del self._server.connections[self.peer]
        self._socket.detach()
        if self._parted_at is None:
            self._server.broker.gone(self.peer, self._server.now())
        self._server.pressure.caught_up(self.peer)
        if not self._server.flushing:
            self._server.settle()
        log.debug("%s left%s", self, f": {error}" if error else "")

    def data_received(self, data: bytes) -> None:
        self._server.busy_poll.end()
        if self._parted_at is not None:
            return
        self._received += len(data)
        messages = self._decoder.feed(data)
        last = messages[-1][0] if messages else TEXT
        if last < TEXT:
            self._complain(*messages[-1])
        if len(data) < LARGE and (last in WORKER_REPORTS or self._decoder.partial):
            self._acknowledge()
        self._receive(messages)

    def _receive(self, messages: Sequence[Message]) -> None:
        server, peer = self._server, self.peer
        if server.behind and server.pressure.holds(self, messages):
            self._backlog = messages
            return self._pause()
        if len(messages) <= TOGETHER:
            self._backlog = server.broker.receive(peer, messages, server.now())
        else:
            self._backlog = server.take_turn(peer, messages)
        if peer.owed > peer.max_owed:
            self._pause()
        elif self._backlog or self._decoder.behind:
            self._let_others()
        if not server.flushing:
            server.settle()
        return None

    def _let_others(self) -> None:
        """Go on with what the peer sent once others were served."""
        self._pause()
        if not self._in_turn:
            self._in_turn = True
            asyncio.get_running_loop().call_soon(self.go_on)

    def _complain(self, number: int, arguments: Sequence[bytes]) -> None:
        if number == OVERSIZED:
            handle, *_, sentence = (each.decode(errors="replace") for each in arguments)
            log.warning("%s reports of job %s, which fails: %s", self, handle, sentence)
        elif self._decoder.dead:
            sentence = arguments[-1].decode()
            log.warning("%s sent what is not a Gearman packet: %s", self, sentence)

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
            if self._server.pressure.scarce and self.unacknowledged():
                self._server.pressure.withhold_jobs(self)
        if self.stalled_since is not None:
            self._server.pressure.note(self)
            if 0 < self._server.max_unread < (unread := self.unread()):
                log.warning("%s has %d MiB unread (--max-unread): closed", self, unread >> 20)
                self.transport.abort()
        elif self._decoder.dead and not self.peer.deferred and not self._backlog:
            self._part()
        elif self._paused and not self._in_turn:
            self.resume()

    def unread(self) -> int:
        """How many bytes the peer has not read of what was written to it."""
        return self.transport.get_write_buffer_size()

    def unacknowledged(self) -> bool:
        """Whether the kernel holds data for the peer that its host has no room for."""
        held = array("i", [0])
        fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, held)
        return held[0] > LARGE

    def holds(self) -> int:
        """How many bytes are kept for the peer: what it has begun to send, and what it is owed."""
        return self._decoder.held + self.peer.owed + self.unread()

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
        self._unread = 0
        self._pause()
        self._server.pressure.note(self)

    def resume_writing(self) -> None:
        self.stalled_since = None
        self._server.pressure.caught_up(self.peer)
        self.resume()

    def _pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        """The peer reads again: go on with what it had sent, then read more."""
        if self._server.stopping or self.stalled_since is not None:
            return
        self._paused = False
        backlog, self._backlog = self._backlog, ()
        if not backlog and self._decoder.behind:
            self.data_received(b"")
        else:
            self._receive(backlog)
        if not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def go_on(self) -> None:
        """Others were served: go on with what the peer had sent."""
        self._in_turn = False
        if self._paused and self._parted_at is None and not self.transport.is_closing():
            self.resume()

    def check(self, now: float) -> None:
        """Close it when its peer is gone, does not read, or not go on writing, for too long."""
        why = ""
        if self.stalled_since is not None:
            why = self._stalled(now - self.stalled_since)
        elif not self._paused:
            why = self._late(now)
        if not why and keepalive.peer_gone(self._socket):
            why = "is gone: it answers no more"
        if why:
            log.warning("%s %s: closed", self, why)
        if why or (self._parted_at is not None and now - self._parted_at > PARTING_LIMIT):
            self.transport.abort()

    def _stalled(self, seconds: float) -> str:
        """What is wrong with a peer that does not read."""
        server = self._server
        if (unread := self.unread()) < self._unread:
            self.stalled_since = server.now()
        self._unread = unread
        if 0 < server.unread_timeout < seconds:
            return f"has not read for {seconds:.0f} s (--unread-timeout)"
        return ""

    def _late(self, now: float) -> str:
        """What is wrong with a peer that does not go on with the message it has begun."""
        begun, received, since = self._checked
        rate = (self._received - received) / max(now - since, 1.0)
        if not self._partial() or begun != self._decoder.begun or rate >= LEAST_RATE:
            self._checked = (self._decoder.begun, self._received, now)
        elif now - since > SILENT_LIMIT:
            return f"sent less than {LEAST_RATE} bytes a second of a message for {SILENT_LIMIT:g} s"
        return ""

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
        max_unread: int = 0,
        unread_timeout: float = 0.0,
    ) -> None:
        self.broker = broker
        self.connections: dict[Peer, Connection] = {}
        self.handshakes: set[asyncio.Task[None]] = set()  # of those who are not connections yet
        self.room = Room(max_connections, self.connections, self.handshakes, loop.time)
        self.max_packet = max_packet
        self.max_unread = max_unread
        self.unread_timeout = unread_timeout
        self.pressure = Pressure(loop, broker.queues)
        self.behind = self.pressure.behind
        self.high_water = MAX_OWED
        self.now = loop.time
        self.vigil = Vigil(loop)
        self._loop = loop
        self.flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = inf  # when it rings
        self._turn_end = 0.0

    def take_turn(self, peer: Peer, messages: Sequence[Message]) -> Sequence[Message]:
        """Bring the broker a peer's messages, for no longer than its turn; return what is left."""
        now = self.now()
        began = time.monotonic()  # the loop's own clock may stand still for a turn
        if not self.flushing:
            self._turn_end = began + TURN_OF_ALL
        end = min(began + TURN, self._turn_end)
        for start in range(0, len(messages), TOGETHER):
            left = self.broker.receive(peer, messages[start : start + TOGETHER], now)
            following = start + TOGETHER - len(left)
            if left or time.monotonic() > end:
                return messages[following:]
        return ()

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

    def share_memory(self, used: int, limit: int) -> None:
        """Bound what readers have unread by the bytes until the limit of memory."""
        scarce = used > limit / 2
        self.pressure.share(limit - used, scarce=scarce)
        high_water = OWED_PAUSE_SCARCE if scarce else MAX_OWED
        if high_water != self.high_water:
            self.high_water = high_water
            for connection in self.connections.values():
                connection.transport.set_write_buffer_limits(high=high_water)

    def hang_up(self, peer: Peer) -> None:
        """Close a peer's connection, after what it can be told."""
        connection = self.connections.get(peer)
        if connection is not None and not connection.transport.is_closing():
            connection.flush()
            connection.transport.close()

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

    async def sweep(self) -> None:
        """Close the connections whose peers have done nothing of what they should for too long."""
        connections = list(self.connections.values())
        for start in range(0, len(connections), SLICE):
            now = self.now()
            for connection in connections[start : start + SLICE]:
                if connection.peer in self.connections:
                    connection.check(now)
            await asyncio.sleep(0)
