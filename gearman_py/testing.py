"""For tests of workers and clients: a real job server inside the test process.

with server() as jobs, running(worker):
    assert Client(jobs.address).do("shout", "hello") == b"HELLO"

pytest has the fixtures ``gearman_server`` and ``gearman_client``. To test only a function, no
server is needed: ``shout(job("hello"))``.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from gearman_py import __version__
from gearman_py.admin.client import AdminClient
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.kept_results import KeptResults
from gearman_py.broker.queues import Queues
from gearman_py.event_loop import new_event_loop
from gearman_py.net.tls import TLS
from gearman_py.protocol.packets import Packet
from gearman_py.serializer import Serializer
from gearman_py.server.connection import Connection
from gearman_py.server.listener import Listener
from gearman_py.server.tls_acceptor import TLSAcceptor
from gearman_py.worker.job import Data, WorkerJob, as_bytes
from gearman_py.worker.session import Assignment
from gearman_py.worker.worker import Worker

WAIT_TIMEOUT = 30.0  # seconds: for a busy machine


class Server:
    """A job server in a thread of this process, at ``address`` ("127.0.0.1:port").

    It keeps failed jobs, and the results of background jobs for an hour. With ``tls`` it speaks TLS
    alone, and its address begins with "gearmans://".
    """

    def __init__(self, tls: TLS | None = None) -> None:
        self._tls = tls
        self._context = tls.server_context() if tls else None
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run_server, name="gearman-server", daemon=True)
        self._thread.start()
        self.port = self._port.result(WAIT_TIMEOUT)
        self.address = f"{'gearmans://' if tls else ''}127.0.0.1:{self.port}"

    def wait_for(
        self,
        function: str,
        *,
        workers: int = 0,
        waiting: int | None = None,
        running: int | None = None,
        timeout: float = WAIT_TIMEOUT,
    ) -> None:
        """Wait until ``function`` has at least ``workers``, and exactly the given jobs.

        Raises TimeoutError, which shows the current counts, after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with AdminClient(self.address, tls=self._tls) as admin:
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
                    raise TimeoutError(f"timed out after {timeout:g} s: {stand}")
                time.sleep(0.005)

    def close(self) -> None:
        """Stop the server and close its connections."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_TIMEOUT)

    def _run_server(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._serve_until_stop())

    async def _serve_until_stop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        queues = Queues(b"H:test", failed=FailedJobs(1000), results=KeptResults({b"": 3600.0}))
        listener = Listener(Broker(queues, version=__version__, time_of_day=time.time), self._loop)
        listening = socket.create_server(("127.0.0.1", 0))
        server = await self._accept_at(listening, listener)
        self._port.set_result(listening.getsockname()[1])
        await self._stop.wait()
        server.close()
        for connection in listener.connections.values():
            connection.transport.abort()
        while listener.connections:  # noqa: ASYNC110  they end within a few iterations of the loop
            await asyncio.sleep(0)

    async def _accept_at(
        self, listening: socket.socket, listener: Listener
    ) -> asyncio.Server | TLSAcceptor:
        connect = partial(Connection, listener)
        if self._context is None:
            return await self._loop.create_server(connect, sock=listening)
        has_room, handshakes = listener.admission.has_room, listener.handshakes
        return TLSAcceptor(self._loop, connect, listening, self._context, handshakes, has_room)


@contextmanager
def server(tls: TLS | None = None) -> Iterator[Server]:
    """A job server on a free port while the block lasts; with ``tls`` it accepts only TLS."""
    running = Server(tls)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """Run the worker in a thread while the block lasts; the block starts once it is registered.

    At the end the worker drains, and its error is raised if it failed.
    """
    drain: Future[Callable[[], object]] = Future()
    started: Future[None] = Future()

    async def serve_until_drained() -> None:
        loop = asyncio.get_running_loop()
        drain.set_result(partial(loop.call_soon_threadsafe, worker.drain))
        serving = asyncio.create_task(worker.serve())
        registered = asyncio.create_task(worker.registered())
        await asyncio.wait((serving, registered), return_when=asyncio.FIRST_COMPLETED)
        started.set_result(None)
        registered.cancel()
        await serving

    outcome: Future[None] = Future()

    def run_worker() -> None:
        try:
            outcome.set_result(asyncio.run(serve_until_drained()))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run_worker, name="gearman-worker", daemon=True).start()
    try:
        started.result(WAIT_TIMEOUT)
        yield worker
    finally:
        try:
            drain.result(WAIT_TIMEOUT)()
        except RuntimeError:
            pass  # it has already ended; its outcome follows
        outcome.result(WAIT_TIMEOUT)


class RecordedJob(WorkerJob):
    """A job for calling a function directly; it keeps what the function sends."""

    def __init__(self, assignment: Assignment, serializer: Serializer | None) -> None:
        super().__init__(assignment, "a test", self._record_packet, serializer)
        self.data: list[bytes] = []
        self.warnings: list[bytes] = []
        self.status: tuple[int, int] | None = None

    def _record_packet(self, packet: Packet, *arguments: bytes) -> None:
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
    """A job to call a function with; ``data``, ``warnings`` and ``status`` keep what it sends."""
    return RecordedJob(Assignment("H:test:1", function, unique, as_bytes(workload)), serializer)
