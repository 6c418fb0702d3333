"""``AsyncServerLink``: how an AsyncAdminClient reaches its job servers.

It sends a line, and the answer is a line or a listing.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Self, TypeVar

from gearman_py.admin.aio_connection import AsyncAdminConnection
from gearman_py.admin.answers import ServerRow, parse_rows, value_of
from gearman_py.admin.command_words import encode_command
from gearman_py.errors import ConnectionLost, JobTimeout, ServerUnavailable
from gearman_py.net.servers import Servers, parse_servers, why_not
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied
from gearman_py.per_loop import PerLoop
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet

T = TypeVar("T", bound=ServerRow)


class AsyncServerLink(NotCopied):
    """A connection to the first of some job servers that can be reached."""

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        connect_timeout: float = 3.0,
        timeout: float = 10.0,
        client_id: str = "",
    ) -> None:
        """``client_id``: what servers call it in their logs, and where they say who paused what."""
        self._servers = parse_servers(servers, tls=tls)
        self.server = self._servers[0]
        self.passed_over: list[tuple[str, str]] = []
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._client_id = client_id
        self._greeting = request(Packet.SET_CLIENT_ID, client_id.encode()) if client_id else b""
        self._connections = PerLoop(AsyncAdminConnection, AsyncAdminConnection.abandon)
        _ = self.members  # made before tasks share this

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @cached_property
    def members(self) -> list[Self]:
        """With several servers, a client of each."""
        return [
            type(self)(
                [server],
                connect_timeout=self._connect_timeout,
                timeout=self._timeout,
                client_id=self._client_id,
            )
            for server in self._servers
            if len(self._servers) > 1
        ]

    async def value(self, command: str) -> str:
        """Send a command; return its one-line answer without OK. Raises AdminError for ERR."""
        (line,) = await self._ask_server(command, listing=False)
        return value_of(self.server, line)

    async def listing(self, command: str) -> list[str]:
        """Send a command; return the lines of its answer, without the final ``.``"""
        lines = await self._ask_server(command, listing=True)
        if lines and lines[0].startswith("ERR "):
            value_of(self.server, lines[0])
        return lines

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()
        for member in self.members:
            await member.close()

    async def _ask_listing(self, command: str, parse: Callable[[str], T]) -> list[T]:
        rows = parse_rows(self.server, command, await self.listing(command), parse)
        server = str(self.server)
        return [row._replace(server=server) for row in rows]

    async def _ask_server(self, command: str, *, listing: bool) -> list[str]:
        line = encode_command(command)
        connection = self._connections.here
        async with connection.turn:
            if not connection.is_open:
                await self._open_connection(connection)
            try:
                return await connection.exchange(line, self._timeout, listing=listing)
            except TimeoutError:
                await connection.close()
                late = f"{self.server} did not answer within {self._timeout:g} s"
                raise JobTimeout(late) from None
            except OSError as error:
                await connection.close()
                raise ConnectionLost(str(self.server), why_not(error)) from None
            except BaseException:  # interrupted: an answer may still arrive
                await connection.close()
                raise

    async def _open_connection(self, connection: AsyncAdminConnection) -> None:
        self.passed_over = []
        for server in self._servers:
            try:
                await connection.open(server, self._connect_timeout, self._greeting)
            except OSError as error:
                self.passed_over.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self.server = server
                return
        raise ServerUnavailable(self.passed_over)
