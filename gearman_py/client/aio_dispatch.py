"""How the jobs of an AsyncClient reach servers: connections, batches, lost jobs."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import cast

from gearman_py.client import timeouts
from gearman_py.client.aio_job import AsyncJob
from gearman_py.client.arguments import Submit, split_batches
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import JobStatus
from gearman_py.client.routing import Router
from gearman_py.client.session import ClientSession, Question, read_status
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.aio_dial import open_connection
from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.net.tls import REFUSED_AT_ONCE
from gearman_py.per_loop import at_shutdown, hang_up

_CLOSED = "closed by this client"
CLOSE_TIMEOUT = 2.0  # seconds for a connection to send its last bytes
MAX_READ_AHEAD = 4 * 2**20  # bytes of data parts that are read while no task waits


class AsyncDispatcher:
    """One for each client and event loop."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._resubmits = config.max_resubmits
        self.loop = asyncio.get_running_loop()
        self._ending = at_shutdown(partial(self.close, "its event loop has ended"))
        self.router = Router(config.servers, self._count_in_flight)
        self._lock = asyncio.Lock()
        self._connections: dict[ServerAddress, _AsyncConnection] = {}
        self._lost: list[AsyncJob] = []  # to be submitted again
        self._resubmitting: asyncio.Task[None] | None = None
        self._closing = False
        self.waiting = 0  # tasks in wait_until()
        self.ahead = 0  # bytes of data parts that arrived since a task last waited

    async def wait_until(
        self, changed: asyncio.Event, until: Callable[[], bool], deadline: float | None, late: str
    ) -> None:
        """Read until ``until()``, which is checked at each change. Raises JobTimeout(late)."""
        if until():
            return
        self.waiting += 1
        self._resume_reading()
        try:
            async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
                while not until():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise JobTimeout(late) from None
        finally:
            self.waiting -= 1

    def read_for_poll(self) -> None:
        """Read again for code that polls done() instead of waiting."""
        if self.has_read_ahead() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._resume_reading)

    def _resume_reading(self) -> None:
        self.ahead = 0
        for connection in self._connections.values():
            connection.resume_reading()

    def has_read_ahead(self) -> bool:
        """Whether enough data was read for tasks that are busy with earlier parts."""
        return self.ahead > MAX_READ_AHEAD and not self.waiting

    async def close(self, why: str = _CLOSED) -> None:
        """Close the connections and wait until they have ended."""
        for connection in self.hang_up(why):
            await connection.wait_closed()

    def abandon_connections(self) -> None:
        """Close the sockets after the event loop was closed: asyncio cannot be used any more."""
        for connection in self._connections.values():
            hang_up(connection.transport)
        self._connections.clear()

    def hang_up(self, why: str = _CLOSED) -> "list[_AsyncConnection]":
        """Close the connections; foreground jobs that are not done are lost."""
        self._closing = True
        connections = list(self._connections.values())
        for connection in connections:
            connection.close(why)
        self._connections.clear()
        if self._resubmitting is not None:
            self._resubmitting.cancel()
            self._resubmitting = None
        lost, self._lost = self._lost, []
        for job in lost:
            if not job.done():
                job._give_up(ConnectionLost(job.server, why))
        self._closing = False
        return connections

    def submit_again(self, job: AsyncJob, error: GearmanError) -> None:
        """Resubmit a job that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
            return
        self._lost.append(job)
        if self._resubmitting is None:
            self._resubmitting = asyncio.get_running_loop().create_task(self._resubmit_lost())

    def make_job(self, given: Submit) -> AsyncJob:
        """A job to submit. Raises ValueError or ArgumentTooLarge."""
        config = self.config
        job = AsyncJob(
            given,
            prefix=config.prefix,
            resubmits=self._resubmits,
            serializer=config.serializer,
        )
        job._dispatcher = self
        return job

    def _count_in_flight(self, server: ServerAddress) -> int:
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    def forget_job(self, job: AsyncJob) -> None:
        """Drop what arrives for this job, and never resubmit it."""
        job.resubmits = 0
        for connection in self._connections.values():
            if connection.session.server == job.server:
                connection.session.forget_job(job)

    async def submit_jobs(self, jobs: list[AsyncJob]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all of them."""
        for batch in split_batches(jobs):
            deadline = monotonic() + self.config.submit_timeout
            await self.write_jobs(batch)
            await self._await_accepted(batch, deadline)

    async def write_jobs(self, jobs: list[AsyncJob]) -> None:
        """Write jobs to their servers."""
        # Connect first: if no server can be reached, nothing is written.
        groups = self.router.group_jobs(jobs, monotonic())
        ready = [
            (self._find_open(order[0]) or await self.connect_first(order), group)
            for order, group in groups
        ]
        for connection, group in ready:
            for job in group:
                connection.session.submit_job(job)
            connection.write_queued()
        for connection, _ in ready:
            await self.wait_until(connection.writable, connection.writable.is_set, None, "")

    async def _await_accepted(self, jobs: list[AsyncJob], deadline: float) -> None:
        for job in reversed(jobs):  # from the last: one wait for most of them
            late = timeouts.not_accepted(job, self.config.submit_timeout)
            await job._wait_accepted(deadline, late)

    async def _resubmit_lost(self) -> None:
        """Resubmit all lost jobs together, and those that are lost meanwhile."""
        try:
            while self._lost:
                jobs = list(self._lost)
                try:
                    await self.write_jobs(jobs)
                except GearmanError as error:
                    for job in jobs:
                        job._give_up(error)
                self._lost = self._lost[len(jobs) :]
        finally:
            if self._resubmitting is asyncio.current_task():
                self._resubmitting = None

    def _find_open(self, server: ServerAddress) -> "_AsyncConnection | None":
        connection = self._connections.get(server)
        return connection if connection is not None and connection.session.error is None else None

    async def connect_first(self, order: list[ServerAddress]) -> "_AsyncConnection":
        """A connection to the first of these servers that answers."""
        for attempt in range(1, self.config.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = await self._open_connection(server)
                except OSError as error:
                    self.router.mark_failed(server, monotonic())
                    failures.append((str(server), why_not(error, self.config.connect_timeout)))
                else:
                    self.router.mark_reached(server)
                    return connection
            if attempt < self.config.retry.attempts:
                await asyncio.sleep(self.config.retry.pause_after(attempt))
        raise ServerUnavailable(failures)

    async def _open_connection(self, server: ServerAddress) -> "_AsyncConnection":
        async with self._lock:
            if (living := self._find_open(server)) is not None:
                return living
            async with asyncio.timeout(self.config.connect_timeout):
                session = ClientSession(str(server), self.config.max_packet)
                make = partial(_AsyncConnection, session, self.has_read_ahead)
                connection = self._connections[server] = await open_connection(make, server)
            return connection

    async def find_status(
        self, ask: Callable[[ClientSession], Question], server: str | None
    ) -> JobStatus:
        """The answer of ``server``; for None, of the first server that knows the job."""
        servers = self.router.find_servers(server)
        status = None
        for one in servers:
            try:
                connection = await self.connect_first([one])
            except ServerUnavailable:
                if one is servers[-1] and status is None:
                    raise  # none has answered
                continue
            status = read_status(await self.ask_server(connection, ask))
            if status.known:
                break
        return status or JobStatus(False, False, 0, 0)

    async def ask_server(
        self, connection: "_AsyncConnection", ask: Callable[[ClientSession], Question]
    ) -> list[bytes]:
        """Ask a question and wait for its answer."""
        question, done = ask(connection.session), asyncio.Event()
        question.on_done = done.set
        connection.write_queued()
        late = timeouts.no_answer(connection.session.server, self.config.submit_timeout)
        deadline = monotonic() + self.config.submit_timeout
        await self.wait_until(done, question.done, deadline, late)
        return question.result()


class _AsyncConnection(asyncio.Protocol):
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
            self.transport.abort()

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
