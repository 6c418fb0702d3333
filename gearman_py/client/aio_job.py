"""A job as an awaiting client has it: ``AsyncJob``."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any

from gearman_py.client.arguments import Submit, Timeout
from gearman_py.client.job import ClientJob, JobState
from gearman_py.errors import ConnectionLost, GearmanError, JobTimeout
from gearman_py.serializer import Serializer

if TYPE_CHECKING:
    from gearman_py.client.aio_dispatch import AsyncDispatcher


class AsyncJob(ClientJob):
    """A job that was submitted; ``await job`` or ``await job.result()`` waits for it."""

    _dispatcher: "AsyncDispatcher"

    def __init__(
        self, given: Submit, *, prefix: str, resubmits: int, serializer: Serializer
    ) -> None:
        super().__init__(given, prefix=prefix, resubmits=resubmits, serializer=serializer)
        self._changed = asyncio.Event()
        self._handed_on = given.on_data is not None

    async def result(self, timeout: Timeout = ...) -> bytes:  # noqa: ASYNC109  Job's word
        """As Job.result(). Callbacks given to submit() run in here."""
        self._must_have_result()
        limit = self._dispatcher.manner.limit(timeout)
        deadline = None if limit is None else monotonic() + limit
        late = f"no result of {self.function} within {limit} s (job {self.handle})"
        while not self.done():
            await self._wait(self._has_news, deadline, late)
            await self.deliver()
        await self.deliver()
        return self._outcome()

    def _add_data(self, data: bytes) -> None:
        """A part of the result has come."""
        super()._add_data(data)
        if self._handed_on:
            self._dispatcher.ahead += len(data)

    async def deliver(self) -> None:
        """Run the callbacks for what has happened since, and await those that are to be."""
        while self._news:
            heard = self._news.popleft()()
            if isawaitable(heard):
                await heard

    async def stream(self, timeout: Timeout = ...) -> AsyncIterator[bytes]:  # noqa: ASYNC109
        """As Job.stream()."""
        self._must_have_result()
        self._handed_on = True
        limit = self._dispatcher.manner.limit(timeout)
        late = f"no next data of {self.function} within {limit} s (job {self.handle})"
        ended = False
        while not ended:
            ended = self.done()  # before the last look, as more may come while a part is handed on
            for part in self._parts():
                yield part
            if not ended:
                deadline = None if limit is None else monotonic() + limit
                await self._wait(lambda: bool(self.data) or self._has_news(), deadline, late)
                await self.deliver()
        await self.result()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.stream()

    def must_be_here(self) -> None:
        """Raises ConnectionLost for a job that another event loop would hear of."""
        if not self.done() and self._dispatcher.loop is not asyncio.get_running_loop():
            why = "its connection belongs to another event loop"
            raise ConnectionLost(self.server, why, handle=self.handle)

    async def _wait(self, until: Callable[[], bool], deadline: float | None, late: str) -> None:
        self.must_be_here()
        await self._dispatcher.wait_until(self._changed, until, deadline, late)

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.result().__await__()

    async def exception(
        self,
        timeout: Timeout = ...,  # noqa: ASYNC109  Job's word
    ) -> GearmanError | None:
        """As Job.exception()."""
        try:
            await self.result(timeout)
        except JobTimeout:
            raise
        except GearmanError as error:
            return error
        return None

    async def value(self, timeout: Timeout = ...) -> Any:  # noqa: ASYNC109  Job's word
        """As Job.value()."""
        return self._dispatcher.manner.serializer.loads(await self.result(timeout))

    async def ended(self, deadline: float | None, late: str) -> None:
        """Wait until it has ended. Raises JobTimeout(late)."""
        await self._wait(self.done, deadline, late)

    async def accepted(self, deadline: float, late: str) -> None:
        """Wait until a server has answered for it. Raises JobTimeout(late)."""
        await self._dispatcher.wait_until(
            self._changed, lambda: self.state is not JobState.SUBMITTED, deadline, late
        )

    def _wake(self) -> None:
        self._changed.set()
        super()._wake()

    def _again(self, error: GearmanError) -> None:
        self._dispatcher.submit_again(self, error)
