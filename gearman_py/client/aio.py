"""The client that awaits: ``AsyncClient``, its jobs, and its connection, on asyncio.

The same names and keywords as ``Client``; see there for what they mean.
"""

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from types import EllipsisType
from typing import Any, Self, TypeVar

from gearman_py.client.job import (
    ClientJob,
    Data,
    JobState,
    JobStatus,
    OnData,
    OnStatus,
    Priority,
    Timeout,
    Unique,
)
from gearman_py.client.session import (
    Question,
    Session,
    as_bytes,
    as_function,
    as_unique,
    read_status,
)
from gearman_py.dial import open_connection
from gearman_py.errors import JobTimeout, ServerUnavailable
from gearman_py.servers import Choice, Servers, parse_servers, why_not

T = TypeVar("T")


class AsyncJob(ClientJob):
    """A job that was submitted; ``await job`` or ``await job.result()`` waits for it."""

    _connection: "Connection"
    _timeout: float | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._changed = asyncio.Event()

    async def result(self, timeout: Timeout = ...) -> bytes:  # noqa: ASYNC109  Job's word
        """As Job.result(). Callbacks given to submit() run in here."""
        self._must_have_result()
        limit = self._timeout if isinstance(timeout, EllipsisType) else timeout
        deadline = None if limit is None else monotonic() + limit
        late = f"no result of {self.function} within {limit} s (job {self.handle})"
        while not self.done():
            await _wait(self._changed, lambda: bool(self._news) or self.done(), deadline, late)
            self._deliver()
        return self._outcome()

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.result().__await__()

    def _wake(self) -> None:
        self._changed.set()


class AsyncClient:
    """Client for asyncio: the same words, awaited.

    A task that is cancelled while it waits forgets its job; the server runs it all the same.
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        connect_timeout: float = 3.0,
        submit_timeout: float = 10.0,
        timeout: float | None = None,
    ) -> None:
        self._choice = Choice(parse_servers(servers))
        self._connect_timeout = connect_timeout
        self._submit_timeout = submit_timeout
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
        timeout: Timeout = ...,  # noqa: ASYNC109  Client's word
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> bytes:
        """As Client.do()."""
        job = await self.submit(
            function,
            workload,
            unique=unique,
            priority=priority,
            on_data=on_data,
            on_warning=on_warning,
            on_status=on_status,
        )
        try:
            return await job.result(timeout)
        except BaseException:
            job._connection.session.forget(job)
            raise

    async def do_low(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at low priority."""
        return await self.do(function, workload, unique=unique, priority="low")

    async def do_high(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at high priority."""
        return await self.do(function, workload, unique=unique, priority="high")

    async def do_background(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
    ) -> str:
        """As Client.do_background()."""
        job = await self.submit(
            function, workload, unique=unique, priority=priority, background=True
        )
        return job.handle

    async def do_low_background(
        self, function: str, workload: Data = b"", *, unique: Unique = None
    ) -> str:
        """do_background() at low priority."""
        return await self.do_background(function, workload, unique=unique, priority="low")

    async def do_high_background(
        self, function: str, workload: Data = b"", *, unique: Unique = None
    ) -> str:
        """do_background() at high priority."""
        return await self.do_background(function, workload, unique=unique, priority="high")

    async def submit(
        self,
        function: str,
        workload: Data = b"",
        *,
        unique: Unique = None,
        priority: Priority = "normal",
        background: bool = False,
        on_data: OnData | None = None,
        on_warning: OnData | None = None,
        on_status: OnStatus | None = None,
    ) -> AsyncJob:
        """As Client.submit()."""
        job = AsyncJob(
            as_function(function),
            as_bytes(workload),
            as_unique(unique),
            background=background,
            on_data=on_data,
            on_warning=on_warning,
            on_status=on_status,
        )
        job._timeout = self._timeout
        job._connection = connection = await self._connected()
        deadline = monotonic() + self._submit_timeout
        connection.send(lambda session: session.submit(job, priority))
        late = f"{job.server} did not accept {function} within {self._submit_timeout:g} s"
        await _wait(job._changed, lambda: job.state is not JobState.SUBMITTED, deadline, late)
        if job.error is not None and not job.handle:
            raise job.error
        return job

    async def status(self, job: AsyncJob | str) -> JobStatus:
        """As Client.status()."""
        handle = job if isinstance(job, str) else job.handle
        return read_status(await self._ask(lambda session: session.ask_status(handle)))

    async def ping(self) -> float:
        """As Client.ping()."""
        await self._connected()
        start = monotonic()
        await self._ask(lambda session: session.ping(b"ping"))
        return monotonic() - start

    async def close(self) -> None:
        """As Client.close()."""
        if self._connection is not None:
            self._connection.close("closed by this client")
            self._connection = None

    async def _ask(self, ask: Callable[[Session], Question]) -> list[bytes]:
        connection = await self._connected()
        question, done = connection.send(ask), asyncio.Event()
        question.on_done = done.set
        late = f"no answer from {connection.session.server} within {self._submit_timeout:g} s"
        await _wait(done, question.done, monotonic() + self._submit_timeout, late)
        return question.outcome()

    async def _connected(self) -> "Connection":
        async with self._lock:
            if self._connection is None or self._connection.session.error is not None:
                self._connection = await self._open()
            return self._connection

    async def _open(self) -> "Connection":
        attempts = []
        for server in self._choice.order(monotonic()):
            session = Session(str(server))
            make = partial(Connection, session)
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await open_connection(make, server)
            except OSError as error:
                self._choice.failed(server, monotonic())
                attempts.append((str(server), why_not(error, self._connect_timeout)))
            else:
                self._choice.reached(server)
                return connection
        raise ServerUnavailable(attempts)


class Connection(asyncio.Protocol):
    """Carries a session's bytes. asyncio sets TCP_NODELAY itself."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._transport: asyncio.WriteTransport | None = None

    def send(self, ask: Callable[[Session], T]) -> T:
        """Let ``ask`` queue something in the session, and write it."""
        if self.session.error is not None:
            raise self.session.error
        asked = ask(self.session)
        if self._transport is not None:
            self._transport.write(self.session.take())
        return asked

    def close(self, why: str) -> None:
        """End it; whatever is awaited is lost, for this reason."""
        self.session.lose(why)
        if self._transport is not None:
            self._transport.close()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.session.receive(data)
        if self.session.error is not None and self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.session.lose(why_not(error) if error else "it closed the connection")


async def _wait(
    changed: asyncio.Event, until: Callable[[], bool], deadline: float | None, late: str
) -> None:
    """Wait until ``until()``, asking again at each change. Raises JobTimeout(late)."""
    try:
        async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
            while not until():
                changed.clear()
                await changed.wait()
    except TimeoutError:
        raise JobTimeout(late) from None
