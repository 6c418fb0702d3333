"""The connection of an AsyncAdminClient in one event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from gearman_py.admin.answer_reader import AnswerReader
from gearman_py.net.aio_dial import abort_connection
from gearman_py.net.servers import ServerAddress
from gearman_py.net.tls import REFUSED_AT_ONCE, fresh_context
from gearman_py.per_loop import at_shutdown, hang_up

CLOSE_TIMEOUT = 2.0  # seconds for the connection to close
_READ_SIZE = 2**16
S = TypeVar("S")
T = TypeVar("T")


async def ask_at_once(ask: Callable[[S], Coroutine[Any, Any, T]], whom: Iterable[S]) -> list[T]:
    """What each says, in this order."""
    return await asyncio.gather(*map(ask, whom))


class AsyncAdminConnection:
    """``turn`` is held by the task that waits for an answer."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._ending = at_shutdown(self.close)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""
        return self._streams is not None

    async def open(self, server: ServerAddress, timeout: float, greeting: bytes) -> None:
        """Connect within ``timeout`` seconds, and send the greeting. Raises OSError."""
        async with asyncio.timeout(timeout):
            if server.path is not None:
                self._streams = await asyncio.open_unix_connection(server.path)
            else:
                context = fresh_context(server.tls) if server.tls else None
                self._streams = await asyncio.open_connection(server.host, server.port, ssl=context)
        self._streams[1].write(greeting)
        self._answers = AnswerReader()
        self._may_be_refused = server.tls is not None  # until it has answered

    async def exchange(self, line: bytes, timeout: float, *, listing: bool) -> list[str]:
        """Send the line of a command and return those of its answer. Raises OSError."""
        assert self._streams is not None  # noqa: S101  for mypy: the caller has opened it
        reader, writer = self._streams
        async with asyncio.timeout(timeout):
            writer.write(line)
            await writer.drain()
            while (answer := self._answers.next_answer(listing=listing)) is None:
                if not (data := await reader.read(_READ_SIZE)):
                    raise ConnectionResetError(
                        REFUSED_AT_ONCE if self._may_be_refused else "it closed the connection"
                    )
                self._may_be_refused = False
                self._answers.receive_data(data)
        return answer

    async def close(self) -> None:
        """Close it; it may be opened again."""
        streams, self._streams = self._streams, None
        if streams is not None:
            writer = streams[1]
            writer.close()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await writer.wait_closed()
            except OSError:
                pass  # it was lost, or the server does not close it
            finally:
                abort_connection(writer.transport)

    def abandon(self) -> None:
        """Close the socket after the event loop was closed."""
        if self._streams is not None:
            hang_up(self._streams[1].transport)
