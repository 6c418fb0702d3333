"""The functions of a worker: what is declared of each, and how a job is run by one.

Wherever it runs, in a thread, a process or the event loop, a job ends in one Answer.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from gearman_py.protocol.packets import Packet
from gearman_py.serializer import Serializer
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.job import Failed, Requeue, Send, WorkerJob, as_bytes
from gearman_py.worker.session import GIVE_BACK, Answer, Assignment

_log = logging.getLogger("gearman_py.worker")

_EXCEPTION_SIZE = 512  # bytes of an exception's text: a line to read, not a dump
_LONGEST_BACKOFF = 60.0  # seconds
_NOTHING = nullcontext()

Function = Callable[[Any], Any]
Around = Callable[[WorkerJob], AbstractContextManager[object]]
Hook = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Declared:
    """A function and what Worker.function() was told of it."""

    function: Function
    workload: bool
    timeout: float | None
    server_timeout: float | None
    retries: int
    retry_on: tuple[type[Exception], ...]
    backoff: float

    @property
    def awaits(self) -> bool:
        """Whether it is for the event loop."""
        function = self.function
        if not inspect.isroutine(function) and not isinstance(function, type):
            function = getattr(function, "func", None) or type(function).__call__
        return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


class Registry:
    """A worker's functions by the names they have on the wire.

    These begin with ``prefix``; once there is an ``address``, each function also has a second
    one that ends with ``@address``.
    """

    def __init__(self, *, prefix: str, serializer: Serializer | None, exceptions: bool) -> None:
        self.timeout: float | None = None  # of functions that have none of their own
        self.address = ""
        self.declared: dict[str, Declared] = {}
        self.around: list[Around] = []
        self.on_startup: list[Hook] = []
        self.on_shutdown: list[Hook] = []
        self._prefix = prefix
        self._serializer = serializer
        self._exceptions = exceptions

    def add(self, name: str, declared: Declared) -> None:
        """Raises ValueError for a name that cannot be, or is there already."""
        if not name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of a function")
        if self._prefix + name in self.declared:
            raise ValueError(f"there is a function {name!r} already")
        self.declared[self._prefix + name] = declared

    def complete(self) -> None:
        """All are declared: give each its second name. Raises ValueError when there is none."""
        if not self.declared:
            raise ValueError("a worker needs at least one function")
        if self.address:
            plain = {k: v for k, v in self.declared.items() if not k.endswith(self._suffix)}
            self.declared |= {name + self._suffix: one for name, one in plain.items()}

    def time_limit(self, function: str) -> float | None:
        """The seconds that a job of ``function`` may take."""
        return self.declared[function].timeout or self.timeout

    def server_limits(self) -> dict[str, float]:
        """The time limits for servers to enforce, in seconds."""
        found = {name: one.server_timeout for name, one in self.declared.items()}
        return {name: limit for name, limit in found.items() if limit is not None}

    def job(self, assignment: Assignment, server: str, send: Send) -> WorkerJob:
        """The job as its function is to see it."""
        job = WorkerJob(assignment, server, send, self._serializer)
        job.function = job.function.removeprefix(self._prefix)
        if self.address:
            job.function = job.function.removesuffix(self._suffix)
        return job

    @property
    def _suffix(self) -> str:
        return f"@{self.address}"

    def perform(self, job: WorkerJob) -> Answer:
        """Run a job's plain function."""
        declared = self.declared[self._prefix + job.function]
        backoff = None
        while True:
            try:
                return self._completed(self._call(declared, job))
            except BaseException as error:  # SystemExit too: a job must not end the worker
                if (answer := self._ended(declared, job, error)) is not None:
                    return answer
            backoff = backoff or Backoff(declared.backoff, _LONGEST_BACKOFF)
            time.sleep(backoff.next())
            job.attempt += 1

    async def perform_async(self, job: WorkerJob, room: Callable[[], Awaitable[object]]) -> Answer:
        """Run a job's async function; ``room`` waits until the server has read what was sent."""
        declared = self.declared[self._prefix + job.function]
        backoff = Backoff(declared.backoff, _LONGEST_BACKOFF)
        limit = self.time_limit(self._prefix + job.function)
        try:
            async with asyncio.timeout(limit) as timer:
                while True:
                    try:
                        return self._completed(await self._call_async(declared, job, room))
                    except asyncio.CancelledError:
                        raise
                    except BaseException as error:
                        if (answer := self._ended(declared, job, error)) is not None:
                            return answer
                    await asyncio.sleep(backoff.next())
                    job.attempt += 1
        except TimeoutError:
            assert timer.expired()  # noqa: S101  the function's own is answered above
            return self.too_late(job, limit or 0)

    def too_late(self, job: WorkerJob, limit: float) -> Answer:
        """The answer for a job that was stopped at its time limit, in seconds."""
        job.log.error("stopped: it took longer than %g s", limit)
        return self.failure(job, f"TimeLimit: it took longer than {limit:g} s")

    def failure(self, job: WorkerJob, text: str) -> Answer:
        """The answer that tells the client ``text``."""
        line = text.encode(errors="backslashreplace")[:_EXCEPTION_SIZE]
        if self._exceptions:
            return Answer(Packet.WORK_EXCEPTION, (line,))
        job.send_warning(line)
        return Answer(Packet.WORK_FAIL)

    def _completed(self, result: Any) -> Answer:
        return Answer(Packet.WORK_COMPLETE, (self._dump(result),))

    def _ended(self, declared: Declared, job: WorkerJob, error: BaseException) -> Answer | None:
        """The answer after an error; None: try again."""
        if isinstance(error, Requeue):
            job.log.info("given back: %s", error)
            return GIVE_BACK
        if isinstance(error, Failed):
            job.log.warning("failed: %s", error)
            return Answer(Packet.WORK_FAIL)
        if job.attempt <= declared.retries and isinstance(error, declared.retry_on):
            job.log.warning("attempt %d failed: %s", job.attempt, _one_line(error))
            return None
        job.log.error("failed", exc_info=error)
        return self.failure(job, _one_line(error))

    def _call(self, declared: Declared, job: WorkerJob) -> Any:
        with self._around(job):
            result = declared.function(job.value if declared.workload else job)
            return self._send_parts(job, result) if isinstance(result, GeneratorType) else result

    def _around(self, job: WorkerJob) -> AbstractContextManager[object]:
        return self._all_around(job) if self.around else _NOTHING

    @contextmanager
    def _all_around(self, job: WorkerJob) -> Iterator[None]:
        with ExitStack() as stack:
            for around in self.around:
                stack.enter_context(around(job))
            yield

    def _send_parts(self, job: WorkerJob, parts: Generator[Any, Any, Any]) -> Any:
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                return end.value
            job.send_data(self._dump(part))

    async def _call_async(
        self, declared: Declared, job: WorkerJob, room: Callable[[], Awaitable[object]]
    ) -> Any:
        with self._around(job):
            result = declared.function(job.value if declared.workload else job)
            if not isinstance(result, AsyncGenerator):
                return await result
            async for part in result:
                job.send_data(self._dump(part))
                await room()
            return None if self._serializer is None else b""

    def _dump(self, value: Any) -> bytes:
        if self._serializer is None or isinstance(value, bytes):
            return as_bytes(value)
        return self._serializer.dumps(value)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
