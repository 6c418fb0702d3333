"""Relays TLS connections for the process that has taken this one's place.

A TLS session lives in the memory of its process and cannot be passed on. So at a reload the new
process gets one end of a socket pair for each TLS connection, which it serves as any other; the old
process stays, and passes on what comes at either side until all of these connections have ended.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from gearman_py.broker.queues import Queues
from gearman_py.event_loop import new_event_loop
from gearman_py.net import keepalive
from gearman_py.net.quick_ack import acknowledge_now
from gearman_py.server.connection import PARTING_LIMIT, Connection
from gearman_py.server.early_input import EarlyInput
from gearman_py.server.listener import Listener
from gearman_py.server.memory import Heap
from gearman_py.server.tls_transport import TLSTransport

log = logging.getLogger("gearmand")

NAME = "gearman-relay"  # of the process, in `ps -o comm`: at most 15 characters
SWEEP_INTERVAL = 5.0  # seconds between two checks for peers whose hosts are gone
# Signals to a unit reach all of its processes; a relay ends with the connections of the server.
IGNORED = signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
STANDARD_STREAMS = 0, 1, 2
SWITCH_INTERVAL = 0.0005  # seconds after which a thread gets the interpreter from another


class TLSRelay:
    """The TLS connections of a server, as it is reloaded."""

    def __init__(self) -> None:
        self._passed: list[tuple[TLSTransport, socket.socket]] = []  # with our end of its pair
        self._theirs: list[socket.socket] = []
        self._begun = threading.Event()

    def __len__(self) -> int:
        return len(self._passed)

    def find_descriptor(self, connection: Connection) -> int:
        """What the new process is to serve: the connection's own, or one end of a pair.

        Raises OSError if no descriptor or memory is left.
        """
        transport = connection.transport
        if not isinstance(transport, TLSTransport):
            return int(transport.get_extra_info("socket").fileno())
        ours, theirs = socket.socketpair()
        self._passed.append((transport, ours))
        self._theirs.append(theirs)
        return theirs.fileno()

    def close(self) -> None:
        """The reload has failed: nothing is relayed."""
        for each in (*self._theirs, *(ours for _, ours in self._passed)):
            each.close()

    def run(self, listener: Listener) -> None:
        """Relay until all connections have ended. This process does nothing else any more."""
        _rename_process()
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _close_descriptors(self._kept_descriptors())
        log.info("relaying %d TLS connections", len(self))
        # The event loop of this thread would read what is the new process's.
        relaying = threading.Thread(target=self._run_thread, name="relay")
        relaying.start()
        self._begun.wait()  # peers are served again before anything else is done
        transports = _free_memory(listener)
        relaying.join()
        del transports
        log.info("the last relayed TLS connection has ended")

    def _kept_descriptors(self) -> Iterator[int]:
        yield from STANDARD_STREAMS
        for transport, ours in self._passed:
            yield transport.get_extra_info("socket").fileno()
            yield ours.fileno()
        for handler in logging.getLogger().handlers:
            for name in ("stream", "socket"):  # of a file, of syslog
                if file := getattr(handler, name, None):
                    yield file.fileno()

    def _run_thread(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._relay_all())
        finally:
            self._begun.set()

    async def _relay_all(self) -> None:
        loop = asyncio.get_running_loop()
        relayed = {await _relay(loop, transport, ours) for transport, ours in self._passed}
        self._begun.set()
        while relayed:
            await asyncio.wait({each.ended for each in relayed}, timeout=SWEEP_INTERVAL)
            relayed = {each for each in relayed if not each.ended.done()}
            for each in relayed:
                each.check_peer()


async def _relay(
    loop: asyncio.AbstractEventLoop, secret: TLSTransport, ours: socket.socket
) -> "RelayedPeer":
    """Pass on what comes at either side, from now on."""
    transport, early = await loop.connect_accepted_socket(EarlyInput, ours)
    server, peer = RelayedServer(), RelayedPeer(secret)
    server.other, peer.other = secret, transport
    transport.set_protocol(server)
    transport.resume_reading()
    secret.move_to(loop, peer)
    for piece in early.pieces:
        server.data_received(piece)
    if early.ended:
        loop.call_soon(transport.close)
    return peer


class Relayed(asyncio.Protocol):
    """One side of a connection: what comes there is written to the ``other``."""

    other: asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if not self.other.is_closing():
            self.other.write(data)

    def pause_writing(self) -> None:
        if not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.is_closing():
            self.other.resume_reading()

    def eof_received(self) -> None:
        self.other.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.other.close()


class RelayedPeer(Relayed):
    """The side of the peer. ``ended``: its connection has."""

    def __init__(self, secret: TLSTransport) -> None:
        self._secret = secret
        self._socket: socket.socket = secret.get_extra_info("socket")
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        acknowledge_now(self._socket)
        super().data_received(data)

    def check_peer(self) -> None:
        """Close the connection if the peer's host is gone."""
        if keepalive.peer_gone(self._socket):
            self._secret.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.ended.done():
            self.ended.set_result(None)


class RelayedServer(Relayed):
    """The side of the server. The peer gets what the server wrote, if it reads it soon."""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        secret = cast(TLSTransport, self.other)
        asyncio.get_running_loop().call_later(PARTING_LIMIT, secret.abort)


def _close_descriptors(kept: Iterable[int]) -> None:
    """Close all others: while this process had them, ports would be taken and peers not see ends.

    Their numbers stay taken, for objects that have them may still close them.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    keeping = {nowhere, *kept}
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in keeping:
            with contextlib.suppress(OSError):  # that of the listing, which is closed by now
                os.dup2(nowhere, number)


def _rename_process() -> None:
    with contextlib.suppress(OSError):  # it is only a name
        Path("/proc/self/comm").write_text(NAME)


def _free_memory(listener: Listener) -> list[asyncio.Transport]:
    """Forget jobs and peers, which the other process has.

    Transports are returned and must be kept: each would close its descriptor, and does so twice.
    """
    connections = [each for each in listener.connections.values() if isinstance(each, Connection)]
    transports = [each.transport for each in connections]
    peers = [each.peer for each in connections]
    for each in connections:
        each._socket.detach()  # it would close the transport's
    _forget_jobs(listener.broker.queues)
    for known in (*peers, *connections, listener.broker.queues, listener.broker, listener):
        for name in [*_slots(type(known)), *getattr(known, "__dict__", ())]:
            with contextlib.suppress(AttributeError):  # not every slot has a value
                delattr(known, name)
    Heap().give_back()
    return transports


def _forget_jobs(queues: Queues) -> None:
    """Forget them little by little: at once, the relaying thread would wait."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    queues.uniques.clear()
    for function in queues.functions.values():
        function.queues.clear()
    queues.jobs.clear()


def _slots(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        yield from getattr(each, "__slots__", ())
