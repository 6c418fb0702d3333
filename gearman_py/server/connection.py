"""The connection of a peer: passes its messages to the broker, and writes what the broker owes it.

A packet needs no task, future or timer. A peer that does not read is not read from, so that it
cannot make the server answer more. What it is owed then is bounded by not reading from the workers
that have results for it (gearman_py.server.pressure).
"""

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from gearman_py.broker.returning import FAREWELL, is_settled
from gearman_py.broker.state import Peer
from gearman_py.net import keepalive
from gearman_py.net.quick_ack import acknowledge_now
from gearman_py.protocol.codec import LARGE, Decoder, Message
from gearman_py.protocol.packets import TEXT, WORKER_REPORTS
from gearman_py.server import counts
from gearman_py.server.fault_log import log_fault
from gearman_py.server.listener import MANY_FUNCTIONS, TOGETHER, Listener
from gearman_py.server.message_progress import MessageProgress
from gearman_py.server.peer_origin import UNIX, describe_peer, name_operator
from gearman_py.server.result_budget import ComingResult
from gearman_py.server.unsent import Unsent, has_unread, unacknowledged_bytes
from gearman_py.server.workload_receiver import LargeReader, receive_workload

log = logging.getLogger("gearmand")

# Seconds for which a peer may go on sending while its connection is being closed.
PARTING_LIMIT = 5.0


class Connection(LargeReader):
    """The connection of a peer, which another process has passed on if it is ``known``."""

    transport: asyncio.Transport
    peer: Peer

    def __init__(
        self, server: Listener, *, operator: bool = False, known: Peer | None = None
    ) -> None:
        self._server = server
        self._known = known
        self._operator = operator
        self._decoder = Decoder(text=True, max_packet=server.max_packet, skips_oversized=True)
        self._backlog: Sequence[Message] = ()  # already read, kept while the peer does not read
        self._paused = False  # the peer is not read from
        self._in_turn = False  # it has sent more than is handled in one turn; the rest is scheduled
        self.received = 0  # bytes
        self.closed_for = ""  # why we closed it
        if known is None:
            server.accepted.add(self)
        self.stalled_since: float | None = None  # it is owed more than the buffer should have
        self._taken = 0  # how many bytes the kernel had taken for the peer, when last checked
        self._unsent: Unsent | None = None  # unless the kernel has taken all
        self._parted_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all methods, but are not instances of asyncio's classes.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=0)  # we are told when the kernel takes no more
        address = transport.get_extra_info("peername")
        host = str(address[0]) if isinstance(address, tuple) else UNIX
        theirs = transport.get_extra_info("socket")
        number = theirs.fileno()
        # uvloop's own socket object duplicates the descriptor for each option.
        self._socket = socket.socket(theirs.family, theirs.type, theirs.proto, fileno=number)
        self._progress = MessageProgress(now := self._server.now())
        if self._known is not None:
            self.peer = self._known
            self._server.connections[self.peer] = self
            return
        self._server.accepted.discard(self)
        self.peer = self._server.broker.join(number, host, operator=self._operator, now=now)
        self._server.connections[self.peer] = self
        self._server.counts.opened += 1
        if self._server.stopping or not self._server.admission.admit(
            number, operator=self._operator
        ):
            self.abort(counts.LIMIT)
        log.debug("%s connected", self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._server.connections.pop(self.peer, None) is None:  # it was handed over
            self._socket.detach()
            return
        self._server.counts.closed[self.closed_for or (counts.RESET if error else counts.LEFT)] += 1
        self._server.counts.received_before += self.received
        self._server.counts.sent_before += self.peer.sent
        self._socket.detach()
        if self._parted_at is None:
            self._server.broker.gone(self.peer, self._server.now())
        self._server.forget_connection(self)
        if not self._server.flushing:
            self._server.schedule_flush()
        log.debug("%s left%s", self, f": {error}" if error else "")

    def data_received(self, data: bytes) -> None:
        if not self._server.flushing:  # the first of this turn
            self._server.busy_poll.note_read()
        if self._parted_at is not None:
            return
        self.received += len(data)
        messages = self._decoder.feed(data)
        last = messages[-1][0] if messages else TEXT
        if last < TEXT:
            log_fault(self, *messages[-1], dead=self._decoder.dead)
        partial = self._decoder.partial
        if len(data) < LARGE and (last in WORKER_REPORTS or partial):
            acknowledge_now(self._socket)
        self._process_messages(messages)
        if partial:
            self._server.weigh_message(self)
            receive_workload(self, self._decoder, self.transport)

    def workload_received(self, count: int) -> None:
        if not self._server.flushing:
            self._server.busy_poll.note_read()
        if self._parted_at is not None:
            return
        self.received += count
        messages = self._decoder.fill(count)
        if count < LARGE:
            acknowledge_now(self._socket)
        if messages:
            self._process_messages(messages)
        else:
            self._server.weigh_message(self)

    def _process_messages(self, messages: Sequence[Message]) -> None:
        server, peer = self._server, self.peer
        if server.behind and server.pressure.must_wait(self, messages):
            self._backlog = messages
            return self.pause_peer()
        if len(messages) <= TOGETHER and len(peer.turns) <= MANY_FUNCTIONS:
            self._backlog = server.broker.receive(peer, messages, server.now())
        else:
            self._backlog = server.take_turn(peer, messages)
        if peer.owed > peer.max_owed:
            self.pause_peer()
        elif self._backlog or self._decoder.behind:
            self._yield_turn()
        if not server.flushing:
            server.schedule_flush()
        return None

    def _yield_turn(self) -> None:
        """Handle the rest of what the peer sent after others were served."""
        self.pause_peer()
        if not self._in_turn:
            self._in_turn = True
            asyncio.get_running_loop().call_soon(self.go_on)

    def flush(self) -> None:
        """Write what the peer is owed."""
        if self._parted_at is not None:
            self.peer.take()
            return
        peer = self.peer
        small = peer.owed < LARGE
        pieces = peer.take()
        if small:
            self.transport.write(b"".join(pieces))
        else:
            self.transport.writelines(pieces)
            if self._server.pressure.scarce and self.has_unacknowledged():
                self._server.pressure.withhold_jobs(self)
        if self._unsent is not None and self._note_unsent(pieces):
            self._server.pressure.note_unread(self)
            if 0 < self._server.max_unread < (unread := self.unread_bytes()):
                log.warning("%s has %d MiB unread (--max-unread): closed", self, unread >> 20)
                self.abort(counts.UNREAD)
        elif self._decoder.dead and not peer.deferred and not self._backlog:
            self._half_close(counts.INVALID)
        elif self._paused and not self._in_turn:
            self.resume_peer()

    def unread_bytes(self) -> int:
        """The number of written bytes that the peer has not read."""
        return self.transport.get_write_buffer_size()

    def standstill(self, now: float) -> float:
        """For how long (seconds) the peer has read nothing of what it is owed; 0: it is owed
        little."""
        if self.stalled_since is None:
            return 0.0
        if (taken := self._taken_bytes()) > self._taken:
            self._taken, self.stalled_since = taken, now
        return now - self.stalled_since

    def _taken_bytes(self) -> int:
        return self.peer.sent - self.unread_bytes()

    def has_unacknowledged(self) -> bool:
        """Whether the kernel holds data that the host of the peer has no room for."""
        return unacknowledged_bytes(self._socket) > LARGE

    def held_bytes(self) -> int:
        """The number of bytes held for the peer: of incomplete messages, and what it is owed."""
        return self._decoder.held + self.peer.owed + self.unread_bytes()

    def partial_bytes(self) -> int:
        """How many bytes are held of a message that has not ended."""
        return self._decoder.held

    def missing_bytes(self) -> int:
        """How many bytes are still to come of that message, as far as known."""
        return self._decoder.missing

    def coming_result(self) -> ComingResult | None:
        """The large result that the worker has begun to send, if any."""
        found = self._decoder.peek()
        if found is None or found[0] not in WORKER_REPORTS or found[1] < LARGE:
            return None
        return ComingResult(self._decoder.begun, found[1], self.peer.running.get(found[2]))

    def leave_client(self, why: str = counts.DRAINED) -> None:
        """Close it if its peer is a client for which there is nothing to do here any more."""
        peer = self.peer
        if peer.operator or peer.turns or self._parted_at is not None or not self._is_settled():
            return
        if peer.resubmits:
            peer.send(FAREWELL)
            self.flush()
        elif self._has_partial_message() or has_unread(self._socket):
            return
        self._half_close(why)

    def _is_settled(self) -> bool:
        """Whether the peer has got everything that it asked for."""
        return is_settled(self.peer) and not (self._backlog or self._in_turn or self.unread_bytes())

    def _half_close(self, why: str) -> None:
        """Shut down our side and read until the peer ends: closing with unread bytes resets the
        connection, and data on its way to the peer is lost (RFC 2525, 2.17)."""
        self._parted_at = self._server.now()
        self.closed_for = why
        self._server.broker.gone(self.peer, self._parted_at)
        with suppress(OSError):  # if the peer has reset it, which the transport tells soon
            (self.transport.write_eof if self.transport.can_write_eof() else self.transport.close)()

    def pause_writing(self) -> None:
        self._unsent = Unsent()

    def resume_writing(self) -> None:
        self._unsent = None
        if self.stalled_since is not None:
            self._catch_up()

    def _note_unsent(self, pieces: Sequence[bytes]) -> bool:
        """The kernel has not taken all that was written, of which these are the last pieces.

        Returns whether the peer has stalled.
        """
        if self._unsent is not None:
            self._unsent.add(pieces, self.unread_bytes())
        self.check_unsent()
        return self.stalled_since is not None

    def check_unsent(self) -> None:
        """Have the peer wait if it is far behind with reading, or go on if it is no longer."""
        unread, high_water = self.unread_bytes(), self._server.high_water
        if self.stalled_since is None and unread > high_water:
            self.stalled_since = self._server.now()
            self._taken = self._taken_bytes()
            self.pause_peer()
            self._server.pressure.note_unread(self)
        elif self.stalled_since is not None and unread <= high_water // 4:
            self._catch_up()

    def _catch_up(self) -> None:
        self.stalled_since = None
        self._server.pressure.caught_up(self.peer)
        self.resume_peer()

    def pause_peer(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def resume_peer(self) -> None:
        """The peer reads again: handle what it had sent, then read more."""
        if self.peer.max_owed >= 0:
            self._resume()
        elif not self._in_turn:
            self._in_turn = True
            self._server.continue_listing(self)

    def _resume(self) -> None:
        server = self._server
        if server.stopping or self.stalled_since is not None or server.must_wait(self):
            return
        self._paused = False
        backlog, self._backlog = self._backlog, ()
        if not backlog and self._decoder.behind:
            self.data_received(b"")
        else:
            self._process_messages(backlog)
        if not self._paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def go_on(self) -> None:
        """Others were served: handle what the peer had sent."""
        self._in_turn = False
        if self._paused and self._parted_at is None and not self.transport.is_closing():
            self._resume()

    def abort(self, why: str) -> None:
        """Close it at once, regardless of what the peer is owed."""
        self.closed_for = self.closed_for or why
        self.transport.abort()

    def check_peer(self, now: float) -> None:
        """Close it if the peer is gone, or has not read or completed a message for too long."""
        if self.stalled_since is not None:
            why, reason = self._why_stalled(self.standstill(now)), counts.UNREAD
        else:
            partial = not self._paused and self._has_partial_message()
            why = self._progress.check(self._decoder.begun, self.received, now, partial=partial)
            reason = counts.SLOW
        if not why and keepalive.peer_gone(self._socket):
            why, reason = "no longer answers (keepalive)", counts.GONE
        if why:
            log.warning("%s %s: closed", self, why)
        if why or (self._parted_at is not None and now - self._parted_at > PARTING_LIMIT):
            self.abort(reason)

    def _why_stalled(self, seconds: float) -> str:
        """The reason to close it for a peer that does not read, or ""."""
        if 0 < self._server.unread_timeout < seconds:
            return f"has not read for {seconds:.0f} s (--unread-timeout)"
        return ""

    def _has_partial_message(self) -> bool:
        """Whether the peer has sent an incomplete message."""
        return self._decoder.partial

    def __str__(self) -> str:
        return describe_peer(self.peer, self._socket, self.transport)

    def user(self) -> str:
        """Who is at the other end, as far as an operator wants to know."""
        return name_operator(self.peer, self._socket)
