"""Workers that run in a thread during a test; scenarios for Client and AsyncClient alike."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from gearman_py import JSON, AsyncClient, Client, Worker, WorkerJob
from gearman_py.testing import Server, running, server


@contextmanager
def serving(worker: Worker) -> Iterator[None]:
    """Run a worker in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    done = threading.Thread(target=loop.run_until_complete, args=(worker.serve(),))
    done.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(worker.drain)
        done.join(30)
        loop.close()


@pytest.fixture
def serve_worker() -> Iterator[Callable[[Worker], None]]:
    """Run a worker in a thread until the test ends."""
    with ExitStack() as stack:
        yield lambda worker: stack.enter_context(serving(worker))


_gates: dict[bytes, threading.Event] = {}


@pytest.fixture
def gates() -> Iterator[dict[bytes, threading.Event]]:
    """A job of function ``gated`` with one of these workloads ends once its event is set."""
    _gates.update({name: threading.Event() for name in (b"a", b"b", b"c")})
    yield _gates
    for gate in _gates.values():
        gate.set()


@pytest.fixture(scope="module")
def jobs() -> Iterator[Server]:
    """A job server with a worker of four threads."""
    with server() as here:
        worker = Worker(here.address, concurrency=4, reducers=True)

        @worker.function("upper", workload=True)
        def upper(workload: bytes) -> bytes:
            return workload.upper()

        @worker.function("odd", workload=True)
        def odd(workload: bytes) -> bytes:
            if int(workload) % 2 == 0:
                raise ValueError(f"{workload.decode()} is even")
            return workload

        @worker.function("nap", workload=True)
        def nap(workload: bytes) -> bytes:
            time.sleep(float(workload))
            return workload

        @worker.function("gated", workload=True)
        def gated(workload: bytes) -> bytes:
            assert _gates[workload].wait(60)
            return workload

        @worker.function("sum", workload=True)
        def total(workload: bytes) -> bytes:
            return JSON.dumps(sum(JSON.loads(workload)))

        @worker.function("reducer")
        def reducer(job: WorkerJob) -> str:
            return job.reducer

        @worker.function("clock")
        def clock(job: WorkerJob) -> str:
            return str(time.time())

        with running(worker):
            yield here


class Sync:
    """A blocking client with awaitable methods, which return at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = Client(*arguments, **options)

    async def close(self) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("map", "as_completed"):
            return lambda *arguments, **options: _each(method(*arguments, **options))

        async def call(*arguments: Any, **options: Any) -> Any:
            return method(*arguments, **options)

        return call


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.fixture(params=[Sync, AsyncClient], ids=["sync", "async"])
def use(request: pytest.FixtureRequest, jobs: Server) -> Callable[..., Any]:
    """Runs a coroutine function of a client."""

    def use(
        scenario: Callable[[Any], Awaitable[Any]], *, servers: Any = None, **options: Any
    ) -> Any:
        async def run() -> Any:
            limits = {"timeout": 60, "submit_timeout": 60, "connect_timeout": 60}
            client = request.param(servers or jobs.address, **{**limits, **options})
            try:
                return await scenario(client)
            finally:
                await client.close()

        return asyncio.run(run())

    return use
