"""A worker's bond with one server: connect, grab, sleep, and again, for as long as it lasts."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection

from gearman_py.errors import GearmanError
from gearman_py.protocol.packets import Packet
from gearman_py.servers import Server, why_not
from gearman_py.worker.connection import Connection
from gearman_py.worker.job import WorkerJob
from gearman_py.worker.session import State

_log = logging.getLogger("gearman_py.worker")

_CONNECT_TIMEOUT = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # seconds between attempts to reach a server

Perform = Callable[[WorkerJob], Awaitable[tuple[Packet, *tuple[bytes, ...]]]]
"""Runs a job and returns the packet that ends it, and that packet's payload if it has one."""


class Link:
    """Keeps one server supplied with this worker.

    ``slot`` is held from the asking for a job to its answer, so links that share it run
    one job at a time; ``alone`` says that none does. ``ready`` is set when the server knows
    the functions.
    """

    def __init__(
        self,
        server: Server,
        functions: Collection[str],
        client_id: str,
        slot: asyncio.Lock,
        perform: Perform,
        ready: asyncio.Event,
        *,
        alone: bool,
    ) -> None:
        self.server = server
        self._functions = functions
        self._client_id = client_id
        self._slot = slot
        self._perform = perform
        self._ready = ready
        self._alone = alone
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        self._pause = _FIRST_PAUSE

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin, in a task of ``tasks``."""
        self._task = tasks.create_task(self._keep())

    @property
    def registered(self) -> bool:
        """Whether the server knows the functions now."""
        return self._connection is not None and self._connection.session.registered

    @property
    def busy(self) -> bool:
        """Whether it has a job in hand, or one may be on its way."""
        return self._connection is not None and self._connection.session.state in (
            State.GRABBING,
            State.WORKING,
        )

    def drain(self) -> None:
        """Take no further job; end when the one in hand is answered."""
        self._draining = True
        if not self.busy:
            self.stop()

    def stop(self) -> None:
        """End now."""
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while not self._draining:
            try:
                await self._connected()
            except (OSError, GearmanError) as error:
                pause = self._pause * random.uniform(0.8, 1.2)  # noqa: S311  spreads workers out
                self._pause = min(_LONGEST_PAUSE, self._pause * 2)
                why = why_not(error, _CONNECT_TIMEOUT)
                _log.warning("%s: %s; trying again in %.1f s", self.server, why, pause)
                if not self._draining:
                    await asyncio.sleep(pause)

    async def _connected(self) -> None:
        connection = await Connection.open(
            self.server, self._functions, self._client_id, within=_CONNECT_TIMEOUT
        )
        self._connection = connection
        try:
            while not self._draining:
                # A drain may have begun while the server was asked: nobody would wake us then.
                if not await self._work(connection) and not self._draining:
                    await self._sleep(connection)
        finally:
            self._connection = None
            await connection.close()

    async def _work(self, connection: Connection) -> bool:
        """Run the server's jobs; False when it has none. A result and the next grab are one write.

        Where other servers share the slot, they have a turn after each job.
        """
        session = connection.session
        async with self._slot:
            session.grab()
            while session.state is State.GRABBING:
                connection.flush()
                await connection.until(lambda: session.state is not State.GRABBING)
                self._welcome()
                if session.assignment is None:
                    return False
                job = WorkerJob(session.assignment, connection.server, connection.send)
                session.finish(*await self._perform(job))
                if self._alone and not self._draining:
                    session.grab()
            connection.flush()
            if connection.lost:
                _log.warning("%s was lost before it had a result", self.server)
        return True

    async def _sleep(self, connection: Connection) -> None:
        connection.session.sleep()
        connection.flush()
        await connection.until(lambda: connection.session.state is not State.ASLEEP)

    def _welcome(self) -> None:
        if self._pause != _FIRST_PAUSE or not self._ready.is_set():
            _log.info("registered with %s: %s", self.server, " ".join(self._functions))
        self._pause = _FIRST_PAUSE
        self._ready.set()
