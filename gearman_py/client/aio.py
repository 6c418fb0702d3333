"""``AsyncClient``: the client for asyncio.

Methods and keywords are those of ``Client``, which documents them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from time import monotonic
from typing import Any, Literal, Self, Unpack, overload

from gearman_py.client import timeouts
from gearman_py.client.aio_dispatch import AsyncDispatcher
from gearman_py.client.aio_job import AsyncJob
from gearman_py.client.arguments import (
    Data,
    JobOptions,
    MapOptions,
    Submit,
    SubmitOptions,
    Timeout,
    as_unique,
    with_priority,
)
from gearman_py.client.config import ClientConfig, Retry
from gearman_py.client.job import JobStatus
from gearman_py.client.window import IN_FLIGHT, IN_FLIGHT_BYTES, Window, check_map_options
from gearman_py.errors import GearmanError, JobTimeout
from gearman_py.net.servers import Servers, parse_servers
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied
from gearman_py.per_loop import PerLoop
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import JSON, Serializer


class AsyncClient(NotCopied):
    """Client for asyncio: the methods of Client, awaited.

    It may be used in several event loops, one after the other or in threads: each loop has its
    own connections, and a job belongs to the loop that submitted it. If a task is cancelled while
    it waits for a job, the server still runs the job.
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        connect_timeout: float = 3.0,
        submit_timeout: float = 10.0,
        timeout: float | None = None,
        retry: Retry = Retry(),  # noqa: B008  immutable
        on_lost: Literal["raise", "resubmit"] = "raise",
        prefix: str = "",
        serializer: Serializer = JSON,
        max_packet: int = MAX_PACKET,
    ) -> None:
        self._config = ClientConfig(
            servers=parse_servers(servers, tls=tls),
            connect_timeout=connect_timeout,
            submit_timeout=submit_timeout,
            timeout=timeout,
            retry=retry,
            on_lost=on_lost,
            prefix=prefix,
            serializer=serializer,
            max_packet=max_packet,
        )
        self._dispatchers = PerLoop(
            lambda: AsyncDispatcher(self._config), AsyncDispatcher.abandon_connections
        )

    @property
    def _dispatcher(self) -> AsyncDispatcher:
        return self._dispatchers.here()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  as in Client
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """As Client.do()."""
        dispatcher = self._dispatcher
        job = dispatcher.make_job(Submit(function=function, workload=workload, **options))
        job._must_have_result()
        try:
            await dispatcher.submit_jobs([job])
            return await job.result(timeout)
        except BaseException:
            dispatcher.forget_job(job)
            raise

    async def do_low(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  as in Client
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at low priority."""
        return await self.do(function, workload, timeout=timeout, **with_priority("low", options))

    async def do_high(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  as in Client
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at high priority."""
        return await self.do(function, workload, timeout=timeout, **with_priority("high", options))

    async def do_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """As Client.do_background()."""
        options["background"] = True
        return (await self.submit(function, workload, **options)).handle

    async def do_low_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """do_background() at low priority."""
        return await self.do_background(function, workload, **with_priority("low", options))

    async def do_high_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """do_background() at high priority."""
        return await self.do_background(function, workload, **with_priority("high", options))

    async def call(
        self,
        function: str,
        value: Any = None,
        *,
        timeout: Timeout = ...,  # noqa: ASYNC109  as in Client
        **options: Unpack[JobOptions],
    ) -> Any:
        """As Client.call()."""
        return self._config.serializer.loads(
            await self.do(function, value=value, timeout=timeout, **options)
        )

    def call_map(
        self, function: str, values: Iterable[Any], **options: Unpack[MapOptions]
    ) -> AsyncIterator[Any]:
        """As Client.call_map()."""
        dumps, loads = self._config.serializer.dumps, self._config.serializer.loads
        results = self.map(function, map(dumps, values), **options)
        return (one if isinstance(one, GearmanError) else loads(one) async for one in results)

    async def submit(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> AsyncJob:
        """As Client.submit()."""
        job = self._dispatcher.make_job(Submit(function=function, workload=workload, **options))
        await self._dispatcher.submit_jobs([job])
        if job.error is not None and not job.handle:
            raise job.error
        return job

    async def submit_many(self, jobs: Iterable[Submit]) -> list[AsyncJob]:
        """As Client.submit_many()."""
        submitted = [self._dispatcher.make_job(one) for one in jobs]
        await self._dispatcher.submit_jobs(submitted)
        return submitted

    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        in_flight_bytes: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["raise"] = ...,
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[bytes]: ...
    @overload
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = ...,
        in_flight_bytes: int = ...,
        ordered: bool = ...,
        timeout: Timeout = ...,
        on_error: Literal["raise", "yield"] = ...,
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[bytes | GearmanError]: ...
    def map(
        self,
        function: str,
        workloads: Iterable[Data],
        *,
        in_flight: int = IN_FLIGHT,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        ordered: bool = True,
        timeout: Timeout = ...,
        on_error: Literal["raise", "yield"] = "raise",
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[bytes | GearmanError]:
        """As Client.map()."""
        check_map_options(function, on_error, options)
        window = Window[AsyncJob](in_flight, in_flight_bytes)
        given = iter(workloads)
        wanted = (Submit(function=function, workload=one, **options) for one in given)
        return self._map_jobs(wanted, window, function, timeout, on_error, ordered=ordered)

    async def _map_jobs(
        self,
        wanted: Iterator[Submit],
        window: Window[AsyncJob],
        function: str,
        timeout: Timeout,  # noqa: ASYNC109  as in Client
        on_error: Literal["raise", "yield"],
        *,
        ordered: bool,
    ) -> AsyncIterator[bytes | GearmanError]:
        dispatcher = self._dispatcher
        given = map(dispatcher.make_job, wanted)
        ended = _EndedJobs(dispatcher)
        try:
            while True:
                batch = window.take_jobs(given)
                for job in batch:
                    job._listener = None if ordered else ended.add_job
                await dispatcher.write_jobs(batch)
                if not window.jobs:
                    return
                limit = self._config.resolve_timeout(timeout)
                deadline = None if limit is None else monotonic() + limit
                late = timeouts.no_next_result(function, limit)
                if ordered:
                    await window.first_job()._wait_ended(deadline, late)
                else:
                    await ended.wait_any(deadline, late)
                for job in window.in_turn(None if ordered else ended.jobs):
                    await job._run_callbacks()
                    yield job._map_outcome(on_error)
        finally:
            for job in window.jobs:
                dispatcher.forget_job(job)

    async def as_completed(
        self,
        jobs: Iterable[AsyncJob],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as in Client
    ) -> AsyncIterator[AsyncJob]:
        """As Client.as_completed()."""
        deadline = None if timeout is None else monotonic() + timeout
        ended = _EndedJobs(self._dispatcher)
        left = set(jobs)
        for job in left:
            job._check_event_loop()
            job._listener = ended.add_job
            if job.done():
                ended.add_job(job)
        while left:
            late = timeouts.not_ended(len(left), timeout)
            await ended.wait_any(deadline, late)
            job = ended.jobs.popleft()
            left.remove(job)
            await job._run_callbacks()
            yield job

    async def wait(
        self,
        jobs: Iterable[AsyncJob],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as in Client
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
        return await self._dispatcher.find_status(
            lambda session: session.ask_status(handle), server
        )

    async def status_unique(self, unique: str) -> JobStatus:
        """As Client.status_unique()."""
        key = as_unique(unique)
        return await self._dispatcher.find_status(
            lambda session: session.ask_status_unique(key), None
        )

    async def ping(self) -> float:
        """As Client.ping()."""
        connection = await self._dispatcher.connect_first(
            self._dispatcher.router.order_servers(monotonic())
        )
        start = monotonic()
        await self._dispatcher.ask_server(connection, lambda session: session.ask_echo(b"ping"))
        return monotonic() - start

    async def close(self) -> None:
        """As Client.close()."""
        for loop, other in self._dispatchers.take_others():
            if loop.is_closed():
                other.abandon_connections()
            else:
                loop.call_soon_threadsafe(other.hang_up)
        await self._dispatcher.close()


class _EndedJobs:
    """Jobs in the order in which they end."""

    def __init__(self, dispatcher: AsyncDispatcher) -> None:
        self._dispatcher = dispatcher
        self.jobs: deque[AsyncJob] = deque()
        self._changed = asyncio.Event()

    def add_job(self, job: AsyncJob) -> None:
        """Add a job that has ended."""
        self.jobs.append(job)
        self._changed.set()

    async def wait_any(self, deadline: float | None, late: str) -> None:
        """Wait for a job that was not taken yet. Raises JobTimeout(late)."""
        await self._dispatcher.wait_until(self._changed, lambda: bool(self.jobs), deadline, late)
