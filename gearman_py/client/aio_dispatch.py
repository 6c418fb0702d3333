"""How an awaiting client's jobs get to servers: connections, batches, jobs that were lost."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import cast

from gearman_py.client.aio_job import AsyncJob
from gearman_py.client.arguments import Submit, batches
from gearman_py.client.job import JobStatus
from gearman_py.client.routing import Manner, Router
from gearman_py.client.session import Question, Session, read_status
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout, ServerUnavailable
from gearman_py.net.aio_dial import open_connection
from gearman_py.net.servers import Server, why_not
from gearman_py.net.tls import TURNED_AWAY
from gearman_py.per_loop import at_shutdown, hang_up

_CLOSED = "closed by this client"
FAREWELL = 2.0  # seconds for a connection that we close to end
_MOST_AHEAD = 4 * 2**20  # bytes of data parts that are read before a task asks for them


class AsyncDispatcher:
    """One for each client and event loop; ``Manner`` is what the client was told."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self._resubmits = manner.resubmits
        self.loop = asyncio.get_running_loop()
        self._ending = at_shutdown(partial(self.close, "its event loop has ended"))
        self.router = Router(manner.servers, self._load)
        self._lock = asyncio.Lock()
        self._connections: dict[Server, _Connection] = {}
        self._lost: list[AsyncJob] = []  # to be submitted again
        self._revival: asyncio.Task[None] | None = None
        self._closing = False
        self.waiting = 0  # tasks in wait_until()
        self.ahead = 0  # bytes of data to be handed on that came since a task waited

    async def wait_until(
        self, changed: asyncio.Event, until: Callable[[], bool], deadline: float | None, late: str
    ) -> None:
        """Read until ``until()``, asking again at each change. Raises JobTimeout(late)."""
        if until():
            return
        self.waiting += 1
        self.ahead = 0
        for connection in self._connections.values():
            connection.read_on()
        try:
            async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
                while not until():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise JobTimeout(late) from None
        finally:
            self.waiting -= 1

    def is_ahead(self) -> bool:
        """Whether more data has come than those who are given it have asked for."""
        return self.ahead > _MOST_AHEAD and not self.waiting

    async def close(self, why: str = _CLOSED) -> None:
        """Close the connections, and wait until they have ended."""
        for connection in self.hang_up(why):
            await connection.parted()

    def abandon(self) -> None:
        """Its event loop was closed: nothing of asyncio can be used, and nobody waits there."""
        for connection in self._connections.values():
            hang_up(connection.transport)
        self._connections.clear()

    def hang_up(self, why: str = _CLOSED) -> "list[_Connection]":
        """Close the connections; foreground jobs not yet done are lost."""
        self._closing = True
        connections = list(self._connections.values())
        for connection in connections:
            connection.close(why)
        self._connections.clear()
        if self._revival is not None:
            self._revival.cancel()
            self._revival = None
        lost, self._lost = self._lost, []
        for job in lost:
            if not job.done():
                job._give_up(ConnectionLost(job.server, why))
        self._closing = False
        return connections

    def submit_again(self, job: AsyncJob, error: GearmanError) -> None:
        """Submit a job again that was lost by ``error``."""
        if self._closing:
            job._give_up(error)
            return
        self._lost.append(job)
        if self._revival is None:
            self._revival = asyncio.get_running_loop().create_task(self._revive())

    def job(self, given: Submit) -> AsyncJob:
        """A job that is to be submitted. Raises ValueError or ArgumentTooLarge."""
        manner = self.manner
        job = AsyncJob(
            given,
            prefix=manner.prefix,
            resubmits=self._resubmits,
            serializer=manner.serializer,
        )
        job._dispatcher = self
        return job

    def _load(self, server: Server) -> int:
        connection = self._connections.get(server)
        return connection.session.in_flight if connection is not None else 0

    def forget(self, job: AsyncJob) -> None:
        """Drop what comes for this job; if it is lost, it stays so."""
        job.resubmits = 0
        for connection in self._connections.values():
            if connection.session.server == job.server:
                connection.session.forget(job)

    async def submit(self, jobs: list[AsyncJob]) -> None:
        """Submit jobs, many in one write, and wait until servers have answered for all."""
        for batch in batches(jobs):
            deadline = monotonic() + self.manner.submit_timeout
            await self.start(batch)
            await self._accepted(batch, deadline)

    async def start(self, jobs: list[AsyncJob]) -> None:
        """Write jobs to the servers that they go to."""
        # Connections first: when there is none, nothing is written.
        groups = self.router.groups(jobs, monotonic())
        ready = [
            (self._living(order[0]) or await self.connected(order), group)
            for order, group in groups
        ]
        for connection, group in ready:
            for job in group:
                connection.session.submit(job)
            connection.flush()
        for connection, _ in ready:
            await self.wait_until(connection.room, connection.room.is_set, None, "")

    async def _accepted(self, jobs: list[AsyncJob], deadline: float) -> None:
        for job in reversed(jobs):  # the last to be answered first: one wait for most of them
            limit = self.manner.submit_timeout
            late = f"{job.server} did not accept {job.function} within {limit:g} s"
            await job.accepted(deadline, late)

    async def _revive(self) -> None:
        """Submit all lost jobs together, and those that are lost meanwhile."""
        try:
            while self._lost:
                jobs = list(self._lost)
                try:
                    await self.start(jobs)
                except GearmanError as error:
                    for job in jobs:
                        job._give_up(error)
                self._lost = self._lost[len(jobs) :]
        finally:
            if self._revival is asyncio.current_task():
                self._revival = None

    def _living(self, server: Server) -> "_Connection | None":
        connection = self._connections.get(server)
        return connection if connection is not None and connection.session.error is None else None

    async def connected(self, order: list[Server]) -> "_Connection":
        """A connection to the first of these servers that answers."""
        for attempt in range(1, self.manner.retry.attempts + 1):
            failures = []
            for server in order:
                try:
                    connection = await self._open(server)
                except OSError as error:
                    self.router.failed(server, monotonic())
                    failures.append((str(server), why_not(error, self.manner.connect_timeout)))
                else:
                    self.router.reached(server)
                    return connection
            if attempt < self.manner.retry.attempts:
                await asyncio.sleep(self.manner.retry.pause(attempt))
        raise ServerUnavailable(failures)

    async def _open(self, server: Server) -> "_Connection":
        async with self._lock:
            if (living := self._living(server)) is not None:
                return living
            async with asyncio.timeout(self.manner.connect_timeout):
                session = Session(str(server), self.manner.max_packet)
                make = partial(_Connection, session, self.is_ahead)
                connection = self._connections[server] = await open_connection(make, server)
            return connection

    async def status(self, ask: Callable[[Session], Question], server: str | None) -> JobStatus:
        """What ``server`` says, or the first of all that knows the job."""
        servers = self.router.named(server)
        status = None
        for one in servers:
            try:
                connection = await self.connected([one])
            except ServerUnavailable:
                if one is servers[-1] and status is None:
                    raise  # not one has answered
                continue
            status = read_status(await self.ask(connection, ask))
            if status.known:
                break
        return status or JobStatus(False, False, 0, 0)

    async def ask(
        self, connection: "_Connection", ask: Callable[[Session], Question]
    ) -> list[bytes]:
        """The answer to a question."""
        question, done = ask(connection.session), asyncio.Event()
        question.on_done = done.set
        connection.flush()
        late = f"no answer from {connection.session.server} within {self.manner.submit_timeout:g} s"
        deadline = monotonic() + self.manner.submit_timeout
        await self.wait_until(done, question.done, deadline, late)
        return question.outcome()


class _Connection(asyncio.Protocol):
    """Carries a session's bytes; reads no further while ``is_ahead()`` and no task waits.

    asyncio sets TCP_NODELAY itself.
    """

    def __init__(self, session: Session, is_ahead: Callable[[], bool]) -> None:
        self.session = session
        self._is_ahead = is_ahead
        self._paused = False
        self.transport: asyncio.Transport
        self.room = asyncio.Event()  # the server reads what we write
        self.room.set()
        self._gone = asyncio.Event()

    def flush(self) -> None:
        """Write what the session has queued."""
        self.transport.write(self.session.take())

    def close(self, why: str) -> None:
        """End it; whatever is awaited is lost, for this reason."""
        self.session.lose(why)
        self.transport.close()

    async def parted(self) -> None:
        """Wait until what was written is out, and TLS has said goodbye; not for ever."""
        try:
            async with asyncio.timeout(FAREWELL):
                await self._gone.wait()
        except TimeoutError:
            pass  # it takes no more bytes
        finally:
            self.transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all the methods, but are not instances of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.session.receive(data)
        if self.session.error is not None:
            self.transport.close()
        elif self._is_ahead():
            self.transport.pause_reading()
            self._paused = True

    def read_on(self) -> None:
        """A task waits: read again."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.room.set()
        self._gone.set()
        if error is not None:
            self.session.lose(why_not(error))
        elif self.transport.get_extra_info("ssl_object") and not self.session.created_size:
            self.session.lose(TURNED_AWAY)
        else:
            self.session.lose("it closed the connection")
