"""How jobs are waited for with asyncio: each has an event, and belongs to an event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from inspect import isawaitable
from typing import Generic, TypeVar

from gearman_py.client.aio_connection_pool import AsyncConnectionPool
from gearman_py.client.arguments import NO_OPTIONS, Data, JobOptions
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import ClientJob
from gearman_py.errors import ConnectionLost, GearmanError
from gearman_py.serializer import JSON, Serializer


class AsyncWaitableJob(ClientJob):
    """What is asyncio's own in a job."""

    _config: ClientConfig
    _pool: AsyncConnectionPool

    def __init__(
        self,
        function: str,
        workload: Data = b"",
        options: JobOptions = NO_OPTIONS,
        serializer: Serializer = JSON,
    ) -> None:
        super().__init__(function, workload, options, serializer)
        self._changed = asyncio.Event()
        self._streamed = self._on_data is not None

    def done(self) -> bool:
        """As ClientJob.done(); for code that polls it, more is read."""
        ended = super().done()
        if not ended:
            self._pool.read_for_poll()
        return ended

    def _add_data(self, data: bytes) -> None:
        super()._add_data(data)
        if self._streamed:
            self._pool.ahead += len(data)

    async def _run_callbacks(self) -> None:
        """Run the callbacks that are due, and await what they return if it is awaitable."""
        while self._news:
            heard = self._news.popleft()()
            if isawaitable(heard):
                await heard

    def _check_owner(self) -> None:
        """Raise ConnectionLost for a job whose connection belongs to another event loop."""
        if not self.done() and self._pool.loop is not asyncio.get_running_loop():
            why = "its connection belongs to another event loop"
            raise ConnectionLost(self.server, why, handle=self.handle)

    async def _wait_until(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until ``until()``; False if ``deadline`` passes first."""
        self._check_owner()
        return await self._pool.wait_until(self._changed, until, deadline)

    async def _wait_accepted(self, deadline: float) -> None:
        """Wait until a server has accepted or refused it, at most until ``deadline``."""
        await self._pool.wait_until(self._changed, self._is_answered, deadline)

    _wait_first_answer = _wait_accepted  # to wait for its result too would save nothing here

    def _notify_waiters(self) -> None:
        self._changed.set()
        super()._notify_waiters()

    def _submit_again(self, error: GearmanError) -> None:
        self._pool.submit_again(self, error)


J = TypeVar("J", bound=AsyncWaitableJob)


class AsyncEndedJobs(Generic[J]):
    """Jobs in the order in which they end."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self.jobs: deque[J] = deque()
        self._changed = asyncio.Event()

    def add_job(self, job: J) -> None:
        """Add a job that has ended."""
        self.jobs.append(job)
        self._changed.set()

    async def wait_any(self, deadline: float | None) -> bool:
        """Wait for a job that was not taken yet; False if ``deadline`` passes first."""
        return await self._pool.wait_until(self._changed, lambda: bool(self.jobs), deadline)
