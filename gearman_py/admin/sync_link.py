# Written by tests/twins.py from aio_link.py; change that one.
"""``ServerLink``: how an AdminClient reaches its job servers.

It sends a line, and the answer is a line or a listing.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Self, TypeVar

from gearman_py.admin.answers import ServerRow, parse_rows, value_of
from gearman_py.admin.command_words import encode_command
from gearman_py.admin.sync_connection import AdminConnection
from gearman_py.errors import ConnectionLost, JobTimeout, ServerUnavailable
from gearman_py.net.servers import Servers, parse_servers, why_not
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied
from gearman_py.per_process import PerProcess
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet

T = TypeVar("T", bound=ServerRow)


class ServerLink(NotCopied):
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
        self._connections = PerProcess(AdminConnection, AdminConnection.abandon)
        _ = self.members  # made before threads share this

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def value(self, command: str) -> str:
        """Send a command; return its one-line answer without OK. Raises AdminError for ERR."""
        (line,) = self._ask_server(command, listing=False)
        return value_of(self.server, line)

    def listing(self, command: str) -> list[str]:
        """Send a command; return the lines of its answer, without the final ``.``"""
        lines = self._ask_server(command, listing=True)
        if lines and lines[0].startswith("ERR "):
            value_of(self.server, lines[0])
        return lines

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        for member in self.members:
            member.close()

    def _ask_listing(self, command: str, parse: Callable[[str], T]) -> list[T]:
        rows = parse_rows(self.server, command, self.listing(command), parse)
        server = str(self.server)
        return [row._replace(server=server) for row in rows]

    def _ask_server(self, command: str, *, listing: bool) -> list[str]:
        line = encode_command(command)
        connection = self._connections.here
        with connection.turn:
            if not connection.is_open:
                self._open_connection(connection)
            try:
                return connection.exchange(line, self._timeout, listing=listing)
            except TimeoutError:
                connection.close()
                late = f"{self.server} did not answer within {self._timeout:g} s"
                raise JobTimeout(late) from None
            except OSError as error:
                connection.close()
                raise ConnectionLost(str(self.server), why_not(error)) from None
            except BaseException:  # interrupted: an answer may still arrive
                connection.close()
                raise

    def _open_connection(self, connection: AdminConnection) -> None:
        self.passed_over = []
        for server in self._servers:
            try:
                connection.open(server, self._connect_timeout, self._greeting)
            except OSError as error:
                self.passed_over.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self.server = server
                return
        raise ServerUnavailable(self.passed_over)
