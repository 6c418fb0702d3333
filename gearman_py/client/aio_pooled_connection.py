"""A connection of an AsyncClient, and the session on it."""

import asyncio
from collections.abc import Callable
from typing import cast

from gearman_py.client.session import ClientSession
from gearman_py.net.aio_dial import abort_connection
from gearman_py.net.servers import why_not
from gearman_py.net.tls import REFUSED_AT_ONCE

CLOSE_TIMEOUT = 2.0  # seconds for a connection to send its last bytes


class AsyncPooledConnection(asyncio.Protocol):
    """Moves the bytes of a session; stops reading while ``has_read_ahead()``.

    asyncio sets TCP_NODELAY itself.
    """

    def __init__(self, session: ClientSession, has_read_ahead: Callable[[], bool]) -> None:
        self.session = session
        self._has_read_ahead = has_read_ahead
        self._paused = False
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()  # set while the server keeps up with what is written
        self.writable.set()
        self._gone = asyncio.Event()

    def write_queued(self) -> None:
        """Write what the session has queued."""
        self.transport.write(self.session.take_output())

    def close(self, why: str) -> None:
        """Close it; all jobs and questions on it are lost, for this reason."""
        self.session.lose_connection(why)
        self.transport.close()

    async def wait_closed(self) -> None:
        """Wait until the last bytes are sent and TLS is closed, at most CLOSE_TIMEOUT."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._gone.wait()
        except TimeoutError:
            pass  # the server does not read
        finally:
            abort_connection(self.transport)

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all the methods, but are not instances of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.session.receive_data(data)
        if self.session.error is not None:
            self.transport.close()
        elif self._has_read_ahead():
            self.transport.pause_reading()
            self._paused = True

    def resume_reading(self) -> None:
        """Read again: a task waits."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.writable.set()
        self._gone.set()
        if error is not None:
            self.session.lose_connection(why_not(error))
        elif self.transport.get_extra_info("ssl_object") and not self.session.created_size:
            self.session.lose_connection(REFUSED_AT_ONCE)
        else:
            self.session.lose_connection("it closed the connection")
