"""``AsyncClient``: the client for asyncio."""

from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import Any, Literal, Self, Unpack, overload

from gearman_py.client.aio_dispatch import AsyncDispatcher
from gearman_py.client.aio_job import AsyncJob
from gearman_py.client.aio_map import jobs_as_completed, map_jobs
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
from gearman_py.client.job_status import JobStatus
from gearman_py.client.window import IN_FLIGHT, IN_FLIGHT_BYTES, Window, check_map_options
from gearman_py.errors import GearmanError, JobTimeout
from gearman_py.net.servers import Servers, parse_servers
from gearman_py.net.tls import TLS
from gearman_py.not_copied import NotCopied
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import JSON, Serializer


class AsyncClient(NotCopied):
    """Submits jobs. Safe to use in several event loops, one after the other or in threads: each
    has its own connections. If a task is cancelled while it waits, the server still runs the job.

    ``servers`` are "host", "host:port", "[address]:port" or "unix:/path", as a list or separated
    by commas; the default is GEARMAN_SERVERS from the environment or /etc/gearman/environment, else
    localhost:4730. A job goes to the server with the fewest of this client's jobs in flight, jobs
    with the same unique to the same server; a server that does not answer is avoided for a while.
    Connections are opened on first use.

    Timeouts are in seconds: ``connect_timeout`` for one server to accept a connection,
    ``submit_timeout`` for it to accept a job, ``timeout`` for results (None: no limit).

    ``retry``: how often all servers are tried before ServerUnavailable is raised; by default
    three times within a third of a second.
    ``on_lost``: what to do with a job whose server is lost after the job was sent: "raise"
    ConnectionLost, because the job may have run, or "resubmit" it, if it may run twice.
    ``prefix`` is put before the name of each function. ``serializer`` is for call(), ``value=``
    and its value(). ``max_packet``: the maximum size of a packet in bytes, sent or received; a
    larger job is refused (ArgumentTooLarge), a larger result fails its job (ResultTooLarge).

    Raises ValueError for an invalid address or limit.
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
        self._dispatcher = AsyncDispatcher(self._config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def do(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """Run a job and return its result: the workload of WORK_COMPLETE.

        ``options`` are those of submit(). Raises what submit() and its result() raise.
        """
        job = self._dispatcher.make_job(function, workload, options)
        job._must_have_result()
        return await self._dispatcher.run_job(job, timeout)

    async def do_low(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at low priority."""
        return await self.do(function, workload, timeout=timeout, **with_priority("low", options))

    async def do_high(
        self,
        function: str,
        workload: Data = b"",
        *,
        timeout: Timeout = ...,
        **options: Unpack[SubmitOptions],
    ) -> bytes:
        """do() at high priority."""
        return await self.do(function, workload, timeout=timeout, **with_priority("high", options))

    async def do_background(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> str:
        """Submit a background job and return its handle once a server has accepted it.

        ``at``: when to run it, a datetime or seconds since 1970.
        """
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
        timeout: Timeout = ...,
        **options: Unpack[JobOptions],
    ) -> Any:
        """do() with values: the serializer's dumps() makes the workload, loads() the result.

        For jobs in the background and in split_batches there is ``value=``, for map() call_map().
        """
        return self._config.serializer.loads(
            await self.do(function, value=value, timeout=timeout, **options)
        )

    def call_map(
        self, function: str, values: Iterable[Any], **options: Unpack[MapOptions]
    ) -> AsyncIterator[Any]:
        """map() with values, as in call(); errors that are yielded are GearmanErrors."""
        dumps, loads = self._config.serializer.dumps, self._config.serializer.loads
        results = self.map(function, map(dumps, values), **options)
        return (one if isinstance(one, GearmanError) else loads(one) async for one in results)

    async def submit(
        self, function: str, workload: Data = b"", **options: Unpack[SubmitOptions]
    ) -> AsyncJob:
        """Submit a job and return once a server has accepted it.

        ``value``: an object for the serializer, instead of ``workload``. ``unique``: jobs with
        the same unique share a run; True means the workload. ``priority``: "low", "normal" or
        "high". ``background``: the job has no result. ``at``: when to run it, in the background,
        a datetime or seconds since 1970. ``reducer``: the function that combines the parts.
        ``on_data``, ``on_warning`` and ``on_status`` are called with what the worker sends, in the
        task that waits for the job; what they are called with is not kept in the job.

        Raises ServerUnavailable, ConnectionLost, JobTimeout (after ``submit_timeout``),
        SubmitError (QueueFull, ArgumentTooLarge), ValueError.
        """
        job = self._dispatcher.make_job(function, workload, options)
        await self._dispatcher.submit_jobs([job])
        if job.error is not None and not job.handle:
            raise job.error
        return job

    async def submit_many(self, jobs: Iterable[Submit]) -> list[AsyncJob]:
        """Submit jobs, many in one write, in the order given; return once all are accepted.

        A job that is refused fails alone: its ``error`` says why. Raises what submit() raises if
        no server can be reached.
        """
        make_job = self._dispatcher.make_job
        # An invalid one raises before any is submitted.
        submitted = [make_job(one.function, one.workload, one.options()) for one in jobs]
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
        """The results of a job for each workload, in their order unless ``ordered=False``.

        Workloads are read as there is room for them: at most ``in_flight`` are submitted and not
        yet yielded, and that many are read first (choose a small number for a slow source). There
        are fewer if workloads and results would exceed ``in_flight_bytes`` together, as estimated
        from the results so far (1 MiB before the first one).
        ``timeout``: seconds for the next result. ``on_error="yield"`` yields the error of a job in
        place of its result and goes on; JobTimeout and ServerUnavailable are still raised. Jobs
        that are left when the iteration ends early still run.
        """
        check_map_options(function, on_error, options)
        window = Window[AsyncJob](in_flight, in_flight_bytes)
        make_job, given = self._dispatcher.make_job, iter(workloads)
        jobs = (make_job(function, one, options) for one in given)
        return map_jobs(
            self._dispatcher, jobs, window, function, timeout, on_error, ordered=ordered
        )

    def as_completed(
        self, jobs: Iterable[AsyncJob], *, timeout: float | None = None
    ) -> AsyncIterator[AsyncJob]:
        """Yield jobs of this client as they end, even by failure. Raises JobTimeout."""
        return jobs_as_completed(self._dispatcher, jobs, timeout)

    async def wait(
        self, jobs: Iterable[AsyncJob], *, timeout: float | None = None
    ) -> tuple[set[AsyncJob], set[AsyncJob]]:
        """Wait until all jobs have ended, or ``timeout`` seconds; return (ended, not ended)."""
        left = set(jobs)
        done = set()
        try:
            async for job in self.as_completed(left, timeout=timeout):
                done.add(job)
        except JobTimeout:
            pass
        return done, left - done

    async def status(self, job: AsyncJob | str) -> JobStatus:
        """What the server of a job knows about it; any server, if it is given by its handle.

        Its ``outcome`` tells a background job that has ended from one that never existed, as long
        as its result or failure is kept.
        """
        handle = job if isinstance(job, str) else job.handle
        server = None if isinstance(job, str) else job.server
        return await self._dispatcher.find_status(
            lambda session: session.ask_status(handle), server
        )

    async def result(self, handle: str, *, timeout: Timeout = ...) -> bytes:
        """Wait for a job in the background, and return its result: the workload of WORK_COMPLETE.

        If the job has ended, the server has to keep its result (gearmand --keep-results). All
        servers are asked until one knows the job. ``timeout`` is in seconds, 0 to wait for nothing
        but the answer; None means no limit, the default is the client's.

        Raises JobFailed or JobException (with the reason, for as long as the failed job is kept),
        JobTimeout (call it again), UnknownJob if the job has never existed or its result is not
        kept (any longer), ResultsUnsupported at a server that keeps none (C gearmand),
        ServerUnavailable, ConnectionLost.
        """
        return await self._dispatcher.find_result(handle, timeout)

    async def status_unique(self, unique: str) -> JobStatus:
        """What any server knows about the job with a unique, and how many clients wait for it."""
        key = as_unique(unique)
        return await self._dispatcher.find_status(
            lambda session: session.ask_status_unique(key), None
        )

    async def ping(self) -> float:
        """Send a few bytes to a server and back; return the round-trip time in seconds."""
        connection = await self._dispatcher.connect_first(
            self._dispatcher.router.order_servers(monotonic())
        )
        start = monotonic()
        await self._dispatcher.ask_server(connection, lambda session: session.ask_echo(b"ping"))
        return monotonic() - start

    async def close(self) -> None:
        """Close the connections; foreground jobs that are not done are lost."""
        await self._dispatcher.close()
