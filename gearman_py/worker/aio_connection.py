"""A worker's connection with asyncio: it moves bytes to and from a session."""

import asyncio
import threading
from collections.abc import Callable
from typing import Self, cast

from gearman_py.errors import ConnectionLost, ProtocolError
from gearman_py.net.aio_dial import abort_connection, open_connection
from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.net.tls import REFUSED_AT_ONCE
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import WorkerSession, log_refusal_once

_CLOSE_TIMEOUT = 2.0  # seconds for the server to close once everything was sent


class AioConnection(asyncio.Protocol):
    """Created by ``open()``. Waiting on it raises ConnectionLost once it has ended."""

    def __init__(self, server: ServerAddress, session: WorkerSession) -> None:
        self.server = str(server)
        self._by_tls = server.tls is not None
        self.session = session
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()  # the transport accepts more bytes
        self._writable.set()
        self._lost: str | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, server: ServerAddress, session: WorkerSession, *, within: float) -> Self:
        """Connect within ``within`` seconds. Raises OSError (TimeoutError is one)."""
        async with asyncio.timeout(within):
            return await open_connection(lambda: cls(server, session), server)

    def flush(self) -> None:
        """Write what the session has queued: one write, however many packets."""
        out = self.session.take_output()
        if self._transport is not None and out and not self.is_lost:
            self._transport.write(out)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something the server sends makes ``condition()`` true."""
        while not condition():
            self._raise_if_lost()
            self._changed.clear()
            await self._changed.wait()

    def send_update(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        """Send an update of the running job. In another thread it waits as wait_writable() does."""
        if threading.get_ident() == self._thread:
            self._raise_if_lost()
            self.session.send_update(handle, packet, *arguments)
            self.flush()
        else:
            sent = self._send_and_wait(handle, packet, *arguments)
            asyncio.run_coroutine_threadsafe(sent, self._loop).result()

    async def _send_and_wait(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        self.send_update(handle, packet, *arguments)
        await self.wait_writable()

    async def wait_writable(self) -> None:
        """Wait until the server has read most of what was sent."""
        await self._writable.wait()

    async def close(self) -> None:
        """Shut down the sending side and let the server close: then everything has arrived."""
        if self._transport is None or self._lost is not None:
            return
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:  # TLS ends both directions at once, after what was written
                self._transport.close()
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.wait_until(lambda: self._lost is not None)
        except (OSError, RuntimeError):
            pass
        finally:
            abort_connection(self._transport)

    @property
    def is_lost(self) -> bool:
        """Whether it has ended."""
        return self._lost is not None

    def _raise_if_lost(self) -> None:
        if self.session.fault is not None:
            raise ProtocolError(f"{self.server} does not speak Gearman: {self.session.fault}")
        if self._lost is not None:
            raise ConnectionLost(self.server, self._lost)

    # asyncio calls these. TCP_NODELAY is set by asyncio itself.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all the methods, but are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.session.receive_data(data)
        if self.session.refusal:
            log_refusal_once(self.server, self.session.refusal)
            self.session.refusal = ""
            self.flush()
        self._changed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._lost = why_not(error)
        elif self._by_tls and not self.session.registered:
            self._lost = REFUSED_AT_ONCE
        else:
            self._lost = "it closed the connection"
        self._writable.set()
        self._changed.set()
