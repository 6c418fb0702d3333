"""A job of an AsyncClient: ``AsyncJob``."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from inspect import isawaitable
from time import monotonic
from typing import Any, Protocol

from gearman_py.client import timeouts
from gearman_py.client.arguments import Submit, Timeout
from gearman_py.client.config import ClientConfig
from gearman_py.client.job import ClientJob, JobState
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout
from gearman_py.serializer import JSON, Serializer


class JobDispatcher(Protocol):
    """What a job needs to know of its dispatcher."""

    config: ClientConfig
    loop: asyncio.AbstractEventLoop
    ahead: int

    async def wait_until(
        self, changed: asyncio.Event, until: Callable[[], bool], deadline: float | None, late: str
    ) -> None: ...

    def read_for_poll(self) -> None: ...

    def submit_again(self, job: "AsyncJob", error: GearmanError) -> None: ...


class AsyncJob(ClientJob):
    """A submitted job; ``await job`` or ``await job.result()`` waits for it."""

    _dispatcher: JobDispatcher

    def __init__(
        self,
        given: Submit,
        *,
        prefix: str = "",
        resubmits: int = 0,
        serializer: Serializer = JSON,
    ) -> None:
        super().__init__(given, prefix=prefix, resubmits=resubmits, serializer=serializer)
        self._changed = asyncio.Event()
        self._streamed = given.on_data is not None

    async def result(self, timeout: Timeout = ...) -> bytes:  # noqa: ASYNC109  as in Job
        """As Job.result(). Callbacks given to submit() run inside this method."""
        self._must_have_result()
        limit = self._dispatcher.config.resolve_timeout(timeout)
        deadline = None if limit is None else monotonic() + limit
        late = timeouts.no_result(self, limit)
        while not self.done():
            await self._wait_until(self._has_news, deadline, late)
            await self._run_callbacks()
        await self._run_callbacks()
        return self._result_or_raise()

    def done(self) -> bool:
        """As Job.done()."""
        ended = super().done()
        if not ended:
            self._dispatcher.read_for_poll()
        return ended

    def _add_data(self, data: bytes) -> None:
        """A part of the result has arrived."""
        super()._add_data(data)
        if self._streamed:
            self._dispatcher.ahead += len(data)

    async def _run_callbacks(self) -> None:
        """Run the callbacks that are due, and await what they return if it is awaitable."""
        while self._news:
            heard = self._news.popleft()()
            if isawaitable(heard):
                await heard

    async def stream(self, timeout: Timeout = ...) -> AsyncIterator[bytes]:  # noqa: ASYNC109
        """As Job.stream()."""
        self._must_have_result()
        self._streamed = True
        limit = self._dispatcher.config.resolve_timeout(timeout)
        late = timeouts.no_result(self, limit)
        ended = False
        while not ended:
            ended = self.done()  # first, as more may arrive while a part is processed
            for part in self._take_parts():
                yield part
            if not ended:
                deadline = None if limit is None else monotonic() + limit
                await self._wait_until(lambda: bool(self.data) or self._has_news(), deadline, late)
                await self._run_callbacks()
        await self.result()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.stream()

    def _check_event_loop(self) -> None:
        """Raise ConnectionLost for a job whose connection belongs to another event loop."""
        if not self.done() and self._dispatcher.loop is not asyncio.get_running_loop():
            why = "its connection belongs to another event loop"
            raise ConnectionLost(self.server, why, handle=self.handle)

    async def _wait_until(
        self, until: Callable[[], bool], deadline: float | None, late: str
    ) -> None:
        self._check_event_loop()
        await self._dispatcher.wait_until(self._changed, until, deadline, late)

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.result().__await__()

    async def exception(
        self,
        timeout: Timeout = ...,  # noqa: ASYNC109  as in Job
    ) -> GearmanError | None:
        """As Job.exception()."""
        try:
            await self.result(timeout)
        except JobTimeout:
            raise
        except GearmanError as error:
            return error
        return None

    async def value(self, timeout: Timeout = ...) -> Any:  # noqa: ASYNC109  as in Job
        """As Job.value()."""
        return self._dispatcher.config.serializer.loads(await self.result(timeout))

    async def _wait_ended(self, deadline: float | None, late: str) -> None:
        """Wait until it has ended. Raises JobTimeout(late)."""
        await self._wait_until(self.done, deadline, late)

    async def _wait_accepted(self, deadline: float, late: str) -> None:
        """Wait until a server has accepted or refused it. Raises JobTimeout(late)."""
        await self._dispatcher.wait_until(
            self._changed, lambda: self.state is not JobState.SUBMITTED, deadline, late
        )

    def _notify_waiters(self) -> None:
        self._changed.set()
        super()._notify_waiters()

    def _submit_again(self, error: GearmanError) -> None:
        self._dispatcher.submit_again(self, error)
