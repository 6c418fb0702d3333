"""Room for one async function's job at a time, in the event loop.

It has a connection to each of its servers. A slot is held from the asking for a job to its
answer, so the connections run one job at a time between them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from time import monotonic

from gearman_py.errors import GearmanError
from gearman_py.net.servers import Server, why_not
from gearman_py.protocol.packets import Packet
from gearman_py.worker.aio_connection import Connection
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.counters import Tally
from gearman_py.worker.session import Answer, Assignment, Session, State
from gearman_py.worker.slot import (
    AFTER_GIVING_BACK,
    CONNECT_TIMEOUT,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SLEEP_LIMIT,
)

_log = logging.getLogger("gearman_py.worker")

Perform = Callable[[Assignment, Connection], Awaitable[Answer]]


class AsyncSlot:
    """As Slot, with the same names, for the running event loop."""

    def __init__(
        self,
        servers: Collection[Server],
        session: Callable[[], Session],
        perform: Perform,
        *,
        on_change: Callable[[], object],
        on_answer: Callable[[], object],
    ) -> None:
        self.ended = False
        self.tally = Tally()
        self.draining = False
        self.turn = asyncio.Lock()
        self.session = session
        self.perform = perform
        self.on_change = on_change
        self._on_answer = on_answer
        self._links = [_Link(self, server, alone=len(servers) == 1) for server in servers]
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task."""
        self._task = asyncio.create_task(self._run())

    @property
    def registered(self) -> int:
        """How many servers know the functions now."""
        return sum(link.registered for link in self._links)

    @property
    def busy(self) -> bool:
        """Whether it has a job in hand, or one may be on its way."""
        return any(link.busy for link in self._links)

    @property
    def progress(self) -> float:
        """When it last went on, by time.monotonic(): now, as the loop runs this."""
        return monotonic()

    def drain(self) -> None:
        """Take no further job; end when the one in hand is answered."""
        self.draining = True
        for link in self._links:
            if not link.busy or not link.registered:
                link.stop()

    def stop(self) -> None:
        """End now; a job in hand goes back to its server."""
        self.draining = True
        for link in self._links:
            link.stop()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for link in self._links:
                    link.start(tasks)
        finally:
            self.ended = True
            self.on_change()

    def answered(self, answer: Answer) -> None:
        """A link has answered a job."""
        self.tally.count(answer)
        self._on_answer()


class _Link:
    """A slot's bond with one server: connect, grab, sleep, and again.

    ``alone`` says that the slot has no other server.
    """

    def __init__(self, slot: AsyncSlot, server: Server, *, alone: bool) -> None:
        self._slot = slot
        self._server = server
        self._alone = alone
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin, in a task of ``tasks``."""
        self._task = tasks.create_task(self._keep())

    def stop(self) -> None:
        """End now."""
        if self._task is not None:
            self._task.cancel()

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

    async def _keep(self) -> None:
        while not self._slot.draining:
            try:
                await self._connected()
            except (OSError, GearmanError) as error:
                pause = self._backoff.next()
                why = why_not(error, CONNECT_TIMEOUT)
                _log.warning("%s: %s; trying again in %.1f s", self._server, why, pause)
                if not self._slot.draining:
                    await asyncio.sleep(pause)

    async def _connected(self) -> None:
        session = self._slot.session()
        connection = await Connection.open(self._server, session, within=CONNECT_TIMEOUT)
        self._connection = connection
        try:
            while not self._slot.draining:
                # A drain may have begun while the server was asked: nobody would wake us then.
                if not await self._work(connection) and not self._slot.draining:
                    await self._sleep(connection)
        finally:
            self._connection = None
            await connection.close()

    async def _work(self, connection: Connection) -> bool:
        """Run the server's jobs; False when it has none. A result and the next grab are one write.

        Where other servers share the slot, they have a turn after each job.
        """
        session = connection.session
        async with self._slot.turn:
            session.grab()
            while session.grabbing():
                connection.flush()
                known = session.registered
                await connection.until(lambda: not session.grabbing())
                if not known:
                    self._welcome()
                if session.assignment is None:
                    return False
                answer = await self._slot.perform(session.assignment, connection)
                session.finish(answer)
                self._slot.answered(answer)
                if answer.packet is Packet.CANT_DO and not self._slot.draining:
                    connection.flush()
                    await asyncio.sleep(AFTER_GIVING_BACK)
                if self._alone and not self._slot.draining:
                    session.grab()
            connection.flush()
            if connection.lost:
                _log.warning("%s was lost before it had a result", self._server)
        return True

    async def _sleep(self, connection: Connection) -> None:
        connection.session.sleep()
        connection.flush()
        try:
            async with asyncio.timeout(SLEEP_LIMIT):
                await connection.until(lambda: connection.session.state is not State.ASLEEP)
        except TimeoutError:
            connection.session.wake()

    def _welcome(self) -> None:
        _log.info("registered with %s", self._server)
        self._backoff.reset()
        self._slot.on_change()
