"""For people who write workers and clients: a real job server inside the test.

with server() as jobs, running(worker):
    assert Client(jobs.address).do("shout", "hello") == b"HELLO"

pytest finds the same as fixtures: ``gearman_server`` and ``gearman_client``. A function alone
needs no server: ``shout(job("hello"))``.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from gearman_py import __version__
from gearman_py.admin.client import AdminClient
from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.event_loop import new_event_loop
from gearman_py.protocol.packets import Packet
from gearman_py.serializer import Serializer
from gearman_py.server.listener import Connection, Listener
from gearman_py.worker.job import Data, WorkerJob, as_bytes
from gearman_py.worker.session import Assignment
from gearman_py.worker.worker import Worker

_LIMIT = 10.0  # seconds in which what a test waits for must come about


class Server:
    """A job server in a thread of this process, at ``address`` ("127.0.0.1:port")."""

    def __init__(self) -> None:
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="gearman-server", daemon=True)
        self._thread.start()
        self.port = self._port.result(_LIMIT)
        self.address = f"127.0.0.1:{self.port}"

    def wait_for(
        self,
        function: str,
        *,
        workers: int = 0,
        waiting: int | None = None,
        running: int | None = None,
        timeout: float = _LIMIT,
    ) -> None:
        """Wait until ``function`` has so many workers at least, and just so many jobs.

        Raises TimeoutError with how it stands after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with AdminClient(self.address) as admin:
            while True:
                rows = [row for row in admin.status() if row.name == function]
                if any(
                    row.workers >= workers
                    and waiting in (None, row.waiting)
                    and running in (None, row.running)
                    for row in rows
                ):
                    return
                if time.monotonic() > deadline:
                    stand = rows[0] if rows else f"{function} is not known"
                    raise TimeoutError(f"it did not come about in {timeout:g} s: {stand}")
                time.sleep(0.005)

    def close(self) -> None:
        """Stop it; its connections end."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_LIMIT)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        queues = Queues(b"H:test", first=1, function_first=False, rotate=True, wakeup=1)
        listener = Listener(Broker(queues, version=__version__), self._loop)
        server = await self._loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        self._port.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        for connection in listener.connections.values():
            connection.transport.abort()
        while listener.connections:  # noqa: ASYNC110  they go in the loop's next turns
            await asyncio.sleep(0)


@contextmanager
def server() -> Iterator[Server]:
    """A job server on a free port, for as long as the block lasts."""
    running = Server()
    try:
        yield running
    finally:
        running.close()


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """Has the worker serve in a thread while the block lasts, from when servers know it.

    At the end it drains; what went wrong in it is raised then.
    """
    started: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(worker.serve())
        registered = asyncio.create_task(worker.registered())
        await asyncio.wait((serving, registered), return_when=asyncio.FIRST_COMPLETED)
        started.set_result(partial(loop.call_soon_threadsafe, worker.drain))
        registered.cancel()
        await serving

    outcome: Future[None] = Future()

    def run() -> None:
        try:
            outcome.set_result(asyncio.run(serve()))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="gearman-worker", daemon=True).start()
    drain = started.result(_LIMIT)
    try:
        yield worker
    finally:
        try:
            drain()
        except RuntimeError:
            pass  # it has ended already, and its outcome says how
        outcome.result(_LIMIT)


class RecordedJob(WorkerJob):
    """A job for calling a function directly; what the function sends is kept."""

    def __init__(self, assignment: Assignment, serializer: Serializer | None) -> None:
        super().__init__(assignment, "a test", self._record, serializer)
        self.data: list[bytes] = []
        self.warnings: list[bytes] = []
        self.status: tuple[int, int] | None = None

    def _record(self, packet: Packet, *arguments: bytes) -> None:
        if packet is Packet.WORK_DATA:
            self.data.append(arguments[0])
        elif packet is Packet.WORK_WARNING:
            self.warnings.append(arguments[0])
        else:
            self.status = (int(arguments[0]), int(arguments[1]))


def job(
    workload: Data = b"",
    *,
    function: str = "function",
    unique: str = "",
    serializer: Serializer | None = None,
) -> RecordedJob:
    """A job to give to a function: ``data``, ``warnings`` and ``status`` are what it sends."""
    return RecordedJob(Assignment("H:test:1", function, unique, as_bytes(workload)), serializer)
