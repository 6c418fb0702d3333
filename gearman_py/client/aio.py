"""The client that awaits: ``AsyncClient``, on asyncio.

The same names and keywords as ``Client``; see there for what they mean.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from time import monotonic
from typing import Any, Literal, Self, Unpack, overload

from gearman_py.client.aio_dispatch import AsyncDispatcher, AsyncJob, until_true
from gearman_py.client.arguments import (
    Data,
    Options,
    Submit,
    Timeout,
    Unique,
    as_unique,
    room_for,
)
from gearman_py.client.job import JobStatus, in_turn
from gearman_py.client.routing import Manner, Retry
from gearman_py.errors import GearmanError, JobTimeout
from gearman_py.serializer import JSON, Serializer
from gearman_py.servers import Servers, parse_servers
from gearman_py.tls import TLS


class AsyncClient:
    """Client for asyncio: the same words, awaited.

    A task that is cancelled while it waits forgets its job; the server runs it all the same.
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        connect_timeout: float = 3.0,
        submit_timeout: float = 10.0,
        timeout: float | None = None,
        retry: Retry = Retry(),  # noqa: B008  it is frozen
        on_lost: Literal["raise", "resubmit"] = "raise",
        prefix: str = "",
        serializer: Serializer = JSON,
    ) -> None:
        self._manner = Manner(
            servers=parse_servers(servers, tls=tls),
            connect_timeout=connect_timeout,
            submit_timeout=submit_timeout,
            timeout=timeout,
            retry=retry,
            resubmits=retry.attempts if on_lost == "resubmit" else 0,
            prefix=prefix,
            serializer=serializer,
        )
        self._dispatcher = AsyncDispatcher(self._manner)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  Client's word
        **options: Unpack[Options],
    ) -> bytes:
        """As Client.do()."""
        job = await self.submit(function, workload, **options)
        try:
            return await job.result(timeout)
        except BaseException:
            self._dispatcher.forget(job)
            raise

    async def do_low(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at low priority."""
        return await self.do(function, workload, unique=unique, priority="low")

    async def do_high(self, function: str, workload: Data = b"", *, unique: Unique = None) -> bytes:
        """do() at high priority."""
        return await self.do(function, workload, unique=unique, priority="high")

    async def do_background(
        self, function: str, workload: Data = b"", **options: Unpack[Options]
    ) -> str:
        """As Client.do_background()."""
        options["background"] = True
        return (await self.submit(function, workload, **options)).handle

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

    async def call(
        self,
        function: str,
        value: Any = None,
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  Client's word
        **options: Unpack[Options],
    ) -> Any:
        """As Client.call()."""
        workload = self._manner.serializer.dumps(value)
        return self._manner.serializer.loads(
            await self.do(function, workload, timeout=timeout, **options)
        )

    async def submit(
        self, function: str, workload: Data = b"", **options: Unpack[Options]
    ) -> AsyncJob:
        """As Client.submit()."""
        job = self._dispatcher.job(Submit(function=function, workload=workload, **options))
        await self._dispatcher.submit([job])
        if job.error is not None and not job.handle:
            raise job.error
        return job

    async def submit_many(self, jobs: Iterable[Submit]) -> list[AsyncJob]:
        """As Client.submit_many()."""
        submitted = [self._dispatcher.job(one) for one in jobs]
        await self._dispatcher.submit(submitted)
        return submitted

    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["raise"] = ...,
        **options: Unpack[Options],
    ) -> AsyncIterator[bytes]: ...
    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["yield"],
        **options: Unpack[Options],
    ) -> AsyncIterator[bytes | GearmanError]: ...
    async def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = 256,
        ordered: bool = True,
        timeout: Timeout = ...,  # noqa: ASYNC109  Client's word
        on_error: Literal["raise", "yield"] = "raise",
        **options: Unpack[Options],
    ) -> AsyncIterator[bytes | GearmanError]:
        """As Client.map()."""
        make = self._dispatcher.job
        given = iter(workloads)
        flying: dict[AsyncJob, None] = {}  # in the order in which they were given
        ended = _Ended()
        try:
            while True:
                room = islice(given, room_for(in_flight, len(flying)))
                batch = [make(Submit(function=function, workload=one, **options)) for one in room]
                for job in batch:
                    job.listener = None if ordered else ended.add
                    flying[job] = None
                await self._dispatcher.start(batch)
                if not flying:
                    return
                limit = self._manner.limit(timeout)
                deadline = None if limit is None else monotonic() + limit
                late = f"no next result of {function} within {limit} s"
                if ordered:
                    await next(iter(flying)).ended(deadline, late)
                else:
                    await ended.any(deadline, late)
                for job in in_turn(flying, ended.jobs, ordered=ordered):
                    yield job.yielded(on_error)
        finally:
            for job in flying:
                self._dispatcher.forget(job)

    async def as_completed(
        self,
        jobs: Iterable[AsyncJob],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  Client's word
    ) -> AsyncIterator[AsyncJob]:
        """As Client.as_completed()."""
        deadline = None if timeout is None else monotonic() + timeout
        ended = _Ended()
        left = set(jobs)
        for job in left:
            job.listener = ended.add
            if job.done():
                ended.add(job)
        while left:
            late = f"{len(left)} jobs have not ended within {timeout} s"
            await ended.any(deadline, late)
            job = ended.jobs.popleft()
            left.remove(job)
            job.deliver()
            yield job

    async def wait(
        self,
        jobs: Iterable[AsyncJob],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  Client's word
    ) -> tuple[set[AsyncJob], set[AsyncJob]]:
        """As Client.wait()."""
        left = set(jobs)
        done = set()
        try:
            async for job in self.as_completed(left, timeout=timeout):
                done.add(job)
        except JobTimeout:
            pass
        return done, left - done

    async def status(self, job: AsyncJob | str) -> JobStatus:
        """As Client.status()."""
        handle = job if isinstance(job, str) else job.handle
        server = None if isinstance(job, str) else job.server
        return await self._dispatcher.status(lambda session: session.ask_status(handle), server)

    async def status_unique(self, unique: str) -> JobStatus:
        """As Client.status_unique()."""
        key = as_unique(unique)
        return await self._dispatcher.status(lambda session: session.ask_status_unique(key), None)

    async def ping(self) -> float:
        """As Client.ping()."""
        connection = await self._dispatcher.connected(self._dispatcher.router.order(monotonic()))
        start = monotonic()
        await self._dispatcher.ask(connection, lambda session: session.ping(b"ping"))
        return monotonic() - start

    async def close(self) -> None:
        """As Client.close()."""
        await self._dispatcher.close()


class _Ended:
    """Jobs in the order in which they end."""

    def __init__(self) -> None:
        self.jobs: deque[AsyncJob] = deque()
        self._changed = asyncio.Event()

    def add(self, job: AsyncJob) -> None:
        """``job`` has ended."""
        self.jobs.append(job)
        self._changed.set()

    async def any(self, deadline: float | None, late: str) -> None:
        """Wait until one has ended that was not taken yet. Raises JobTimeout(late)."""
        await until_true(self._changed, lambda: bool(self.jobs), deadline, late)
