"""Runs one job of an async function at a time, in the event loop.

It has a connection to each of its servers. A connection holds the slot from asking for a job to
its answer, so the connections run one job at a time between them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from time import monotonic

from gearman_py.errors import GearmanError
from gearman_py.net.servers import ServerAddress
from gearman_py.worker.aio_connection import AioConnection
from gearman_py.worker.backoff import reconnect_backoff
from gearman_py.worker.counters import JobCounters
from gearman_py.worker.server_log import ServerLog
from gearman_py.worker.session import Answer, Assignment, State, WorkerSession
from gearman_py.worker.sync_slot import (
    CONNECT_TIMEOUT,
    GIVE_BACK_PAUSE,
    SLEEP_LIMIT,
)

_log = logging.getLogger("gearman_py.worker")

RunAsyncJob = Callable[[Assignment, AioConnection], Awaitable[Answer]]


class AsyncSlot:
    """The counterpart of Slot for the running event loop; attributes and methods are the same."""

    def __init__(
        self,
        servers: Collection[ServerAddress],
        make_session: Callable[[], WorkerSession],
        run_job: RunAsyncJob,
        *,
        on_change: Callable[[], object],
        on_answer: Callable[[], object],
        server_log: ServerLog,
    ) -> None:
        self.ended = False
        self.counters = JobCounters()
        self.draining = False
        self.turn = asyncio.Lock()
        self.make_session = make_session
        self.run_job = run_job
        self.on_change = on_change
        self._on_answer = on_answer
        self.server_log = server_log
        self._servers = [
            AsyncServerConnection(self, server, alone=len(servers) == 1) for server in servers
        ]
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start, in a task."""
        self._task = asyncio.create_task(self._run_connections())

    @property
    def registered(self) -> int:
        """How many servers have registered the functions."""
        return sum(server.registered for server in self._servers)

    @property
    def busy(self) -> bool:
        """Whether it has a job, or one may be on its way."""
        return any(server.busy for server in self._servers)

    @property
    def is_idle(self) -> bool:
        """Whether every server that could be reached has said that it has no job."""
        asleep = [server.asleep for server in self._servers if server.connected]
        return bool(asleep) and all(asleep) and not any(server.dialing for server in self._servers)

    @property
    def last_progress(self) -> float:
        """When it last made progress, by time.monotonic(): now, because the loop runs this code."""
        return monotonic()

    def drain(self) -> None:
        """Take no further job; end when the running one has been answered."""
        self.draining = True
        for server in self._servers:
            if not server.busy or not server.registered:
                server.stop()

    def stop(self) -> None:
        """Stop now; a running job goes back to its server."""
        self.draining = True
        for server in self._servers:
            server.stop()

    async def _run_connections(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for server in self._servers:
                    server.start(tasks)
        finally:
            self.ended = True
            self.on_change()

    def count_answer(self, answer: Answer) -> None:
        """Count a job that was answered."""
        self.counters.count_answer(answer)
        self._on_answer()


class AsyncServerConnection:
    """Keeps a slot connected to one server: connect, grab, sleep, repeat.

    ``alone`` says that the slot has no other server.
    """

    def __init__(self, slot: AsyncSlot, address: ServerAddress, *, alone: bool) -> None:
        self._slot = slot
        self._address = address
        self._alone = alone
        self.dialing = True  # or about to
        self._backoff = reconnect_backoff()
        self._connection: AioConnection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start, in a task of ``tasks``."""
        self._task = tasks.create_task(self._keep_connected())

    def stop(self) -> None:
        """Stop now."""
        if self._task is not None:
            self._task.cancel()

    @property
    def registered(self) -> bool:
        """Whether the server has registered the functions."""
        return self._connection is not None and self._connection.session.registered

    @property
    def busy(self) -> bool:
        """Whether it has a job, or one may be on its way."""
        return self._connection is not None and self._connection.session.state in (
            State.GRABBING,
            State.WORKING,
        )

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None

    @property
    def asleep(self) -> bool:
        """Whether the server has said that it has no job."""
        return self._connection is not None and self._connection.session.state is State.ASLEEP

    async def _keep_connected(self) -> None:
        while not self._slot.draining:
            try:
                await self._serve_once()
            except (OSError, GearmanError) as error:
                pause = self._backoff.next()
                self._slot.server_log.note_failure(self._address, error, CONNECT_TIMEOUT, pause)
                if not self._slot.draining:
                    await asyncio.sleep(pause)

    async def _serve_once(self) -> None:
        session = self._slot.make_session()
        self.dialing = True
        try:
            connection = await AioConnection.open(self._address, session, within=CONNECT_TIMEOUT)
            self._connection = connection
        finally:
            self.dialing = False
        try:
            while not self._slot.draining:
                # A drain may have started meanwhile: then nothing would wake this task.
                if not await self._run_jobs(connection) and not self._slot.draining:
                    await self._sleep_until_woken(connection)
        finally:
            self._connection = None
            await connection.close()

    async def _run_jobs(self, connection: AioConnection) -> bool:
        """Run the server's jobs; False if it has none. A result and the next grab are one write.

        Other servers that share the slot get their turn after each job.
        """
        session = connection.session
        async with self._slot.turn:
            session.grab_job()
            while session.is_grabbing():
                connection.flush()
                known = session.registered
                await connection.wait_until(lambda: not session.is_grabbing())
                if not known:
                    self._note_registration()
                if session.assignment is None:
                    return False
                answer = await self._slot.run_job(session.assignment, connection)
                session.finish_job(answer)
                self._slot.count_answer(answer)
                if answer.is_for_others and not self._slot.draining:
                    connection.flush()
                    await asyncio.sleep(GIVE_BACK_PAUSE)
                if self._alone and not self._slot.draining:
                    session.grab_job()
            connection.flush()
            if connection.is_lost:
                _log.warning("%s was lost before it got a result", self._address)
        return True

    async def _sleep_until_woken(self, connection: AioConnection) -> None:
        connection.session.pre_sleep()
        connection.flush()
        try:
            async with asyncio.timeout(SLEEP_LIMIT):
                await connection.wait_until(lambda: connection.session.state is not State.ASLEEP)
        except TimeoutError:
            connection.session.wake_up()

    def _note_registration(self) -> None:
        self._slot.server_log.note_registered(self._address)
        self._backoff.reset()
        self._slot.on_change()
