"""The administrative client: a line to the server, a line or a listing back.

A listing ends with a line that is a single ``.``; the C server needs CR LF after
``create function``, and takes it everywhere.
"""

import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import NoReturn, Self, TypeVar

from gearman_py.admin.answers import (
    FunctionStatus,
    JobInfo,
    PriorityStatus,
    WorkerInfo,
    max_queue,
    rows,
    value_of,
    word,
)
from gearman_py.errors import ConnectionLost, JobTimeout, ServerUnavailable
from gearman_py.net.dial import connect
from gearman_py.net.servers import Servers, parse_servers, why_not
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied

T = TypeVar("T")


class AdminClient(NotCopied):
    """Asks one job server: the first of ``servers`` (as in Client) that can be reached.

    ``server`` is the one; ``passed_over`` holds those before it, and why each failed. Nothing
    is connected before the first question. Limits are in seconds. Every question raises
    ServerUnavailable, ConnectionLost, AdminError (the server refused it), or TimeoutError
    after ``timeout``.
    """

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
        self._socket: socket.socket | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> list[FunctionStatus]:
        """Every function the server knows."""
        return self._table("status", FunctionStatus.parse)

    def priority_status(self) -> list[PriorityStatus]:
        """Every function, with its waiting jobs by priority."""
        return self._table("prioritystatus", PriorityStatus.parse)

    def workers(self) -> list[WorkerInfo]:
        """Every connection of the server, clients and this one too.

        Asks for the functions first: only by them can a name with a space be told from two.
        """
        known = [row.name for row in self.status()]
        return self._table("workers", partial(WorkerInfo.parse, known=known))

    def jobs(self) -> list[JobInfo]:
        """Every job the server holds."""
        return self._table("show jobs", JobInfo.parse)

    def unique_jobs(self) -> list[str]:
        """The unique of every job the server holds."""
        return self.listing("show unique jobs")

    def version(self) -> str:
        """The server's version, such as "1.1.20"."""
        return self.value("version")

    def pid(self) -> int:
        """The server's process id."""
        return int(self.value("getpid"))

    def verbose(self) -> str:
        """How much the server logs: ERROR, INFO, ..."""
        return self.value("verbose")

    def create_function(self, name: str) -> None:
        """Let the server know a function before any worker does."""
        self.value(f"create function {word(name)}")

    def drop_function(self, name: str) -> None:
        """Let the server forget a function. AdminError while it has workers or jobs."""
        self.value(f"drop function {word(name)}")

    def max_queue(
        self,
        function: str,
        limit: int | None = None,
        *,
        high: int | None = None,
        normal: int | None = None,
        low: int | None = None,
    ) -> None:
        """Refuse jobs of a function (QueueFull) while it has so many.

        ``high``, ``normal`` and ``low`` are for jobs of that priority, ``limit`` for those
        without their own; None is no limit. All jobs of the function are counted, of any
        priority, and running ones too, as C gearmand does.
        """
        command = max_queue(function, limit, high, normal, low)
        self.create_function(function)  # the C server limits only what it knows
        self.value(command)

    def ping(self) -> float:
        """The seconds that an answer takes."""
        start = monotonic()
        self.value("version")
        return monotonic() - start

    def cancel(self, handle: str) -> None:
        """Take a waiting job from its queue."""
        self.value(f"cancel job {word(handle)}")

    def shutdown(self, *, graceful: bool = False) -> None:
        """Stop the server, after its jobs if ``graceful``. Only its admin socket obeys."""
        self.value("shutdown graceful" if graceful else "shutdown")

    def value(self, command: str) -> str:
        """The server's one-line answer, without its OK. Raises AdminError for ERR."""
        self._send(command)
        return value_of(self.server, self._line())

    def listing(self, command: str) -> list[str]:
        """The server's answer in lines, without the final ``.``"""
        self._send(command)
        lines: list[str] = []
        while (line := self._line()) != ".":
            if not lines and line.startswith("ERR "):
                value_of(self.server, line)
            lines.append(line)
        return lines

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _table(self, command: str, parse: Callable[[str], T]) -> list[T]:
        return rows(self.server, command, self.listing(command), parse)

    def _send(self, command: str) -> None:
        if self._socket is None:
            self._socket = self._connect()
            self._unread = b""
        self._deadline = monotonic() + self._timeout
        try:
            self._socket.sendall(command.encode() + b"\r\n")
        except OSError as error:
            self._lost(why_not(error))

    def _connect(self) -> socket.socket:
        self.passed_over = []
        for server in self._servers:
            try:
                connection = connect(server, self._connect_timeout)
            except OSError as error:
                self.passed_over.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self.server = server
                return connection
        raise ServerUnavailable(self.passed_over)

    def _line(self) -> str:
        while b"\n" not in self._unread:
            self._unread += self._receive()
        line, _, self._unread = self._unread.partition(b"\n")
        return line.removesuffix(b"\r").decode(errors="backslashreplace")

    def _receive(self) -> bytes:
        assert self._socket is not None  # noqa: S101  for mypy: _send made it
        self._socket.settimeout(max(0.001, self._deadline - monotonic()))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            self.close()
            raise JobTimeout(f"{self.server} did not answer within {self._timeout:g} s") from None
        except OSError as error:
            self._lost(why_not(error))
        if not data:
            self._lost("it closed the connection")
        return data

    def _lost(self, why: str) -> NoReturn:
        self.close()
        raise ConnectionLost(str(self.server), why) from None
