"""The connections of an AsyncClient in one event loop, one for each server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic

from gearman_py.client.aio_pooled_connection import AsyncPooledConnection
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import ClientJob
from gearman_py.client.question import Question
from gearman_py.client.session import ClientSession
from gearman_py.errors import ConnectionLost, GearmanError
from gearman_py.net.aio_dial import open_connection
from gearman_py.net.servers import ServerAddress
from gearman_py.per_loop import at_shutdown, hang_up

_CLOSED = "closed by this client"
MAX_READ_AHEAD = 4 * 2**20  # bytes of data parts that are read while no task waits


class AsyncConnectionPool:
    """All connections, and waiting for them; ``resubmit`` is called with lost jobs."""

    def __init__(
        self, config: ClientConfig, resubmit: Callable[[list[ClientJob]], Awaitable[object]]
    ) -> None:
        self._sole, self._max_packet = len(config.servers) == 1, config.max_packet
        self._resubmit = resubmit
        self.loop = asyncio.get_running_loop()
        self._ending = at_shutdown(partial(self.close, "its event loop has ended"))
        self._connecting = asyncio.Lock()
        self._connections: dict[ServerAddress, AsyncPooledConnection] = {}
        self._lost: list[ClientJob] = []  # to be submitted again
        self._resubmitting: asyncio.Task[None] | None = None
        self._closing = False
        self._waiting = 0  # tasks in wait_until()
        self.ahead = 0  # bytes of data parts that arrived since a task last waited

    async def wait_until(
        self, changed: asyncio.Event, until: Callable[[], bool], deadline: float | None
    ) -> bool:
        """Read until ``until()``, which is checked at each change; False if ``deadline`` passes
        first."""
        if until():
            return True
        self._waiting += 1
        self._resume_reading()
        try:
            async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
                while not until():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

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
        return self.ahead > MAX_READ_AHEAD and not self._waiting

    def count_in_flight(self, server: ServerAddress) -> int:
        """The number of jobs in flight to ``server``."""
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    async def get_connection(self, server: ServerAddress, timeout: float) -> AsyncPooledConnection:
        """The connection to ``server``, opened within ``timeout`` seconds. Raises OSError."""
        if (connection := self._find_open(server)) is not None:
            return connection
        async with self._connecting:
            if (connection := self._find_open(server)) is not None:
                return connection  # another task was faster
            session = ClientSession(str(server), self._max_packet, resubmits=not self._sole)
            make = partial(AsyncPooledConnection, session, self.has_read_ahead)
            async with asyncio.timeout(timeout):
                connection = self._connections[server] = await open_connection(make, server)
            return connection

    def _find_open(self, server: ServerAddress) -> AsyncPooledConnection | None:
        connection = self._connections.get(server)
        return connection if connection is not None and connection.session.error is None else None

    async def send_jobs(
        self, connection: AsyncPooledConnection, jobs: Sequence[ClientJob], deadline: float
    ) -> bool:
        """Write jobs, once the server has read earlier ones; False if it had ended before."""
        writable = connection.writable
        if not writable.is_set():
            await self.wait_until(writable, writable.is_set, deadline)
        if connection.session.error is not None:
            return False
        for job in jobs:
            connection.session.submit_job(job)
        connection.write_queued()
        return True

    async def ask_question(
        self,
        connection: AsyncPooledConnection,
        ask: Callable[[ClientSession], Question],
        deadline: float,
    ) -> Question:
        """Ask a question, and wait for the answer until ``deadline``."""
        question, answered = ask(connection.session), asyncio.Event()
        question.on_done = answered.set
        connection.write_queued()
        await self.wait_until(answered, question.done, deadline)
        return question

    def submit_again(self, job: ClientJob, error: GearmanError) -> None:
        """Resubmit a job that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
            return
        self._lost.append(job)
        if self._resubmitting is None:
            self._resubmitting = asyncio.get_running_loop().create_task(self._resubmit_lost())

    async def _resubmit_lost(self) -> None:
        """Resubmit all lost jobs together, and those that are lost meanwhile."""
        try:
            while self._lost:
                jobs = list(self._lost)
                await self._resubmit(jobs)
                self._lost = self._lost[len(jobs) :]
        finally:
            if self._resubmitting is asyncio.current_task():
                self._resubmitting = None

    def forget_job(self, job: ClientJob) -> None:
        """Drop what arrives for this job, and never resubmit it."""
        job.resubmits = job.others = 0
        for connection in self._connections.values():
            if connection.session.server == job.server:
                connection.session.forget_job(job)

    async def close(self, why: str = _CLOSED) -> None:
        """Close the connections and wait until they have ended; foreground jobs that are not done
        are lost."""
        for connection in self._close_connections(why):
            await connection.wait_closed()

    def _close_connections(self, why: str) -> list[AsyncPooledConnection]:
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

    def abandon(self) -> None:
        """Close the sockets after the event loop was closed: asyncio cannot be used any more."""
        for connection in self._connections.values():
            hang_up(connection.transport)
        self._connections.clear()
