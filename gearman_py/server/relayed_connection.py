"""Connections whose TLS another process does: see gearman_py.server.tls_relay.

Each is closed some time after the reload, when its peer loses nothing: a client that waits for
nothing, a worker that runs nothing. Then it connects again, to this process.
"""

import asyncio
from collections.abc import Sequence

from gearman_py.broker.state import Peer
from gearman_py.net.abstract_socket import read_owner
from gearman_py.protocol.codec import Message
from gearman_py.protocol.packets import Packet
from gearman_py.server import counts
from gearman_py.server.connection import Connection
from gearman_py.server.http_connection import HTTPConnection
from gearman_py.server.listener import Listener

# What a worker says to get a job, or to be woken for one.
ASKS_FOR_JOB = Packet.GRAB_JOB, Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB_ALL, Packet.PRE_SLEEP
LOOK_INTERVAL = 1.0  # seconds between two looks for connections whose time is over
# How many are closed at a time: each peer comes back with a handshake, which takes a millisecond.
SLICE = 50


class RelayedConnection(Connection):
    """One that is relayed ``since`` this time, by the clock of the event loop."""

    _is_leaving = False

    def __init__(self, server: Listener, known: Peer, since: float) -> None:
        super().__init__(server, known=known)
        self.since = since

    @property
    def relay(self) -> int:
        """The process that relays it."""
        return read_owner(self._socket)[0]

    def leave(self) -> bool:
        """Close it once its peer does not wait for anything here; return whether it is closed.

        Until then, a worker gets no further jobs.
        """
        self._is_leaving = True
        if self._parted_at is None and not self.peer.turns:
            self.leave_client(counts.RELAYED)
        elif self._parted_at is None and not self.peer.running and self._is_settled():
            self._half_close(counts.RELAYED)
        return self._parted_at is not None

    def _process_messages(self, messages: Sequence[Message]) -> None:
        if self._is_leaving:
            messages = [each for each in messages if each[0] not in ASKS_FOR_JOB]
        super()._process_messages(messages)

    def flush(self) -> None:
        super().flush()
        if self._is_leaving:
            self.leave()


class RelayedHTTPConnection(RelayedConnection, HTTPConnection):
    """The connection of an HTTP client that is relayed."""


async def close_relayed(listener: Listener, seconds: float) -> None:
    """Close relayed connections after ``seconds``. Runs until cancelled."""
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        end = listener.now() - seconds
        due = [each for each in relayed_connections(listener) if each.since <= end]
        closed = 0
        for each in due:
            if each.transport.is_closing():
                continue
            closed += each.leave()
            if closed >= SLICE:
                break


def relayed_connections(listener: Listener) -> list[RelayedConnection]:
    return [each for each in listener.connections.values() if isinstance(each, RelayedConnection)]
