"""A job of an AsyncClient: ``AsyncJob``."""

from collections.abc import AsyncIterator, Generator
from time import monotonic
from typing import Any

from gearman_py.client import timeout_texts
from gearman_py.client.aio_waiting import AsyncWaitableJob
from gearman_py.client.arguments import Timeout
from gearman_py.errors import GearmanError, JobTimeout


class AsyncJob(AsyncWaitableJob):
    """A submitted job; ``await job`` or ``await job.result()`` waits for it."""

    async def result(self, timeout: Timeout = ...) -> bytes:
        """The workload of WORK_COMPLETE; data sent before it is in ``data``.

        ``timeout`` is in seconds; None means no limit, the default is the client's. Raises
        JobFailed, JobException, JobTimeout or ConnectionLost. After a JobTimeout the job goes on:
        call it again. Callbacks given to submit() run inside this method.
        """
        self._must_have_result()
        limit = self._config.resolve_timeout(timeout)
        return await self._result_by(None if limit is None else monotonic() + limit, limit)

    def __await__(self) -> Generator[Any, None, bytes]:  # async only
        return self.result().__await__()

    async def _result_by(self, deadline: float | None, limit: float | None) -> bytes:
        """result() until ``deadline``, ``limit`` seconds after the call."""
        while not self.done():
            if not await self._wait_until(self._has_news, deadline):
                raise JobTimeout(timeout_texts.no_result(self, limit))
            await self._run_callbacks()
        await self._run_callbacks()
        return self._result_or_raise()

    async def stream(self, timeout: Timeout = ...) -> AsyncIterator[bytes]:
        """Yield the data that the worker sends before its result, part by part as it arrives.

        Parts that were yielded are not kept. It ends when the job has ended; result() returns the
        rest. ``timeout`` applies to each part. Raises what result() raises.
        """
        self._must_have_result()
        self._streamed = True
        limit = self._config.resolve_timeout(timeout)
        ended = False
        while not ended:
            ended = self.done()  # first, as more may arrive while a part is processed
            for part in self._take_parts():
                yield part
            if not ended:
                deadline = None if limit is None else monotonic() + limit
                if not await self._wait_until(self._has_part_or_news, deadline):
                    raise JobTimeout(timeout_texts.no_result(self, limit))
                await self._run_callbacks()
        await self.result()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.stream()

    async def exception(self, timeout: Timeout = ...) -> GearmanError | None:
        """Wait for the end of the job and return why it failed; None if it is complete."""
        try:
            await self.result(timeout)
        except JobTimeout:
            raise
        except GearmanError as error:
            return error
        return None

    async def value(self, timeout: Timeout = ...) -> Any:
        """result(), decoded by the client's serializer."""
        return self._config.serializer.loads(await self.result(timeout))
