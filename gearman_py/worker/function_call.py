"""Calls a job's function inside its context managers, and sends the parts it yields.

An error that a context manager suppresses is raised nevertheless: the job has no result.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from types import CoroutineType, GeneratorType
from typing import Any, cast

from gearman_py.serializer import Serializer
from gearman_py.worker.function_spec import FunctionSpec, Middleware
from gearman_py.worker.job import WorkerJob, as_bytes

WaitWritable = Callable[[], Awaitable[object]]
"""Waits until the server has read most of what was sent."""

_SWALLOWED = "a context manager around the job suppressed its error"


class FunctionCaller:
    """Calls functions; ``middlewares`` may be added to later."""

    def __init__(self, middlewares: Iterable[Middleware], serializer: Serializer | None) -> None:
        self._middlewares = middlewares
        self._serializer = serializer

    def call_plain(self, spec: FunctionSpec, job: WorkerJob) -> bytes:
        """The result of a plain function. Raises whatever it raises."""
        return self._dump_value(self._call_in_context(spec, job))

    def _call_in_context(self, spec: FunctionSpec, job: WorkerJob) -> Any:
        if spec.bare or not self._middlewares:
            return self._plain_result(spec, job)
        error: BaseException = RuntimeError(_SWALLOWED)
        with ExitStack() as stack:
            try:
                for middleware in self._middlewares:
                    manager = middleware(job)
                    only_async = not isinstance(manager, AbstractContextManager)
                    if only_async and isinstance(manager, AbstractAsyncContextManager):
                        text = f"{job.function} is not async, but a context manager around it is"
                        raise TypeError(text)
                    stack.enter_context(cast("AbstractContextManager[object]", manager))
                return self._plain_result(spec, job)
            except BaseException as raised:
                error = raised
                raise
        raise error

    def _plain_result(self, spec: FunctionSpec, job: WorkerJob) -> Any:
        result = spec.function(job.value if spec.workload else job)
        if type(result) is bytes:
            return result
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(
                f"{job.function} returned a coroutine, which is not awaited; "
                "if it is decorated, define the decorator's inner function with async def"
            )
        return self._send_parts(job, result) if isinstance(result, GeneratorType) else result

    def _send_parts(self, job: WorkerJob, parts: Generator[Any, Any, Any]) -> Any:
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                return end.value
            job.send_data(self._dump_value(part))

    async def call_async(
        self, spec: FunctionSpec, job: WorkerJob, wait_writable: WaitWritable
    ) -> bytes:
        """The result of an async function. Raises whatever it raises."""
        return self._dump_value(await self._call_in_async_context(spec, job, wait_writable))

    async def _call_in_async_context(
        self, spec: FunctionSpec, job: WorkerJob, wait_writable: WaitWritable
    ) -> Any:
        if spec.bare or not self._middlewares:
            return await self._async_result(spec, job, wait_writable)
        error: BaseException = RuntimeError(_SWALLOWED)
        async with AsyncExitStack() as stack:
            try:
                for middleware in self._middlewares:
                    manager = middleware(job)
                    if isinstance(manager, AbstractAsyncContextManager):
                        await stack.enter_async_context(manager)
                    else:
                        stack.enter_context(manager)
                return await self._async_result(spec, job, wait_writable)
            except BaseException as raised:
                error = raised
                raise
        raise error

    async def _async_result(
        self, spec: FunctionSpec, job: WorkerJob, wait_writable: WaitWritable
    ) -> Any:
        result = spec.function(job.value if spec.workload else job)
        if not isinstance(result, AsyncGenerator):
            return await result
        async for part in result:
            job.send_data(self._dump_value(part))
            await wait_writable()
        return b""

    def _dump_value(self, value: Any) -> bytes:
        if type(value) is bytes:
            return value
        if self._serializer is not None and not isinstance(value, bytes):
            value = self._serializer.dumps(value)
        return as_bytes(value)  # json.dumps gives str
