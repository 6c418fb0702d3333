"""``AsyncAdminClient``: the methods of AdminClient, for asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Self, TypeVar

from gearman_py.admin.answers import (
    FunctionStatus,
    JobInfo,
    PriorityStatus,
    WorkerInfo,
    check_word,
    max_queue_command,
    parse_rows,
    value_of,
)
from gearman_py.errors import ConnectionLost, JobTimeout, ServerUnavailable
from gearman_py.net.servers import ServerAddress, Servers, parse_servers, why_not
from gearman_py.net.tls import REFUSED_AT_ONCE, TLS, fresh_context
from gearman_py.not_copied import NotCopied
from gearman_py.per_loop import PerLoop, at_shutdown, hang_up

T = TypeVar("T")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CLOSE_TIMEOUT = 2.0  # seconds for the connection to close
MAX_ROW_BYTES = 2**26  # a worker may have thousands of functions


class AsyncAdminClient(NotCopied):
    """As AdminClient. Tasks may share it: their commands take turns. Each event loop that uses it
    has its own connection."""

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
    ) -> None:
        self._servers = parse_servers(servers, tls=tls)
        self.server = self._servers[0]
        self.passed_over: list[tuple[str, str]] = []
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._answered = False  # ever
        self._connections = PerLoop(_AdminConnection, _AdminConnection.abandon_connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def status(self) -> list[FunctionStatus]:
        """As AdminClient.status()."""
        return await self._ask_listing("status", FunctionStatus.from_line)

    async def priority_status(self) -> list[PriorityStatus]:
        """As AdminClient.priority_status()."""
        return await self._ask_listing("prioritystatus", PriorityStatus.from_line)

    async def workers(self) -> list[WorkerInfo]:
        """As AdminClient.workers()."""
        known = [row.name for row in await self.status()]
        return await self._ask_listing("workers", partial(WorkerInfo.from_line, known=known))

    async def jobs(self) -> list[JobInfo]:
        """As AdminClient.jobs()."""
        return await self._ask_listing("show jobs", JobInfo.from_line)

    async def unique_jobs(self) -> list[str]:
        """As AdminClient.unique_jobs()."""
        return await self.listing("show unique jobs")

    async def version(self) -> str:
        """As AdminClient.version()."""
        return await self.value("version")

    async def pid(self) -> int:
        """As AdminClient.pid()."""
        return int(await self.value("getpid"))

    async def verbose(self) -> str:
        """As AdminClient.verbose()."""
        return await self.value("verbose")

    async def create_function(self, name: str) -> None:
        """As AdminClient.create_function()."""
        await self.value(f"create function {check_word(name)}")

    async def drop_function(self, name: str) -> None:
        """As AdminClient.drop_function()."""
        await self.value(f"drop function {check_word(name)}")

    async def max_queue(
        self,
        function: str,
        limit: int | None = None,
        *,
        high: int | None = None,
        normal: int | None = None,
        low: int | None = None,
    ) -> None:
        """As AdminClient.max_queue()."""
        command = max_queue_command(function, limit, high, normal, low)
        await self.create_function(function)  # the C server limits only what it knows
        await self.value(command)

    async def ping(self) -> float:
        """As AdminClient.ping()."""
        start = monotonic()
        await self.value("version")
        return monotonic() - start

    async def cancel(self, handle: str) -> None:
        """As AdminClient.cancel()."""
        await self.value(f"cancel job {check_word(handle)}")

    async def shutdown(self, *, graceful: bool = False) -> None:
        """As AdminClient.shutdown()."""
        await self.value("shutdown graceful" if graceful else "shutdown")

    async def value(self, command: str) -> str:
        """As AdminClient.value()."""
        return value_of(self.server, await self._ask_server(command, self._read_line))

    async def listing(self, command: str) -> list[str]:
        """As AdminClient.listing()."""
        return await self._ask_server(command, self._read_listing)

    async def close(self) -> None:
        """Close the connection."""
        for loop, other in self._connections.take_others():
            if loop.is_closed():
                other.abandon_connection()
            else:
                asyncio.run_coroutine_threadsafe(other.close(), loop)
        await self._connections.here().close()

    async def _ask_listing(self, command: str, parse: Callable[[str], T]) -> list[T]:
        return parse_rows(self.server, command, await self.listing(command), parse)

    async def _ask_server(
        self, command: str, read: Callable[[asyncio.StreamReader], Awaitable[T]]
    ) -> T:
        connection = self._connections.here()
        async with connection.turn:
            reader, writer = connection.streams or await self._open_connection(connection)
            try:
                async with asyncio.timeout(self._timeout):
                    writer.write(command.encode() + b"\r\n")
                    await writer.drain()
                    answer = await read(reader)
                    self._answered = True
                    return answer
            except TimeoutError:
                await connection.close()
                late = f"{self.server} did not answer within {self._timeout:g} s"
                raise JobTimeout(late) from None
            except (OSError, EOFError) as error:
                await connection.close()
                why = "it closed the connection"
                if isinstance(error, OSError):
                    why = why_not(error)
                elif self.server.tls is not None and not self._answered:
                    why = REFUSED_AT_ONCE
                raise ConnectionLost(str(self.server), why) from None
            except asyncio.CancelledError:
                await connection.close()  # an answer may still arrive
                raise

    async def _open_connection(self, connection: "_AdminConnection") -> Streams:
        self.passed_over = []
        for server in self._servers:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection.streams = await _open_streams(server)
            except OSError as error:
                self.passed_over.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self.server = server
                return connection.streams
        raise ServerUnavailable(self.passed_over)

    async def _read_line(self, reader: asyncio.StreamReader) -> str:
        line = await reader.readuntil(b"\n")
        return line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="backslashreplace")

    async def _read_listing(self, reader: asyncio.StreamReader) -> list[str]:
        lines: list[str] = []
        while (line := await self._read_line(reader)) != ".":
            if not lines and line.startswith("ERR "):
                value_of(self.server, line)
            lines.append(line)
        return lines


class _AdminConnection:
    """The connection of an event loop: its commands take turns."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._ending = at_shutdown(self.close)
        self.streams: Streams | None = None

    async def close(self) -> None:
        streams, self.streams = self.streams, None
        if streams is not None:
            writer = streams[1]
            writer.close()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await writer.wait_closed()
            except OSError:
                pass  # it was lost, or the server does not close it
            finally:
                writer.transport.abort()

    def abandon_connection(self) -> None:
        """Close the socket after the event loop was closed."""
        if self.streams is not None:
            hang_up(self.streams[1].transport)


async def _open_streams(server: ServerAddress) -> Streams:
    if server.path is not None:
        return await asyncio.open_unix_connection(server.path, limit=MAX_ROW_BYTES)
    context = fresh_context(server.tls) if server.tls else None
    return await asyncio.open_connection(server.host, server.port, ssl=context, limit=MAX_ROW_BYTES)
