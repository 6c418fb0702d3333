"""The functions of a worker, and how a job is run by one.

Wherever it runs, in a thread, a process or the event loop, a job ends in one Answer. Only
what is wrong with the connection is raised: a job's errors, and ours, fail that job.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from types import CoroutineType, GeneratorType
from typing import Any, cast

from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.protocol.packets import Packet
from gearman_py.serializer import Serializer
from gearman_py.worker.backoff import Backoff
from gearman_py.worker.function_spec import (
    Around,
    Declared,
    Hook,
    OnOutcome,
    is_async,
    named,
    seconds,
    sendable,
)
from gearman_py.worker.hooks import tell, tell_async
from gearman_py.worker.job import (
    Failed,
    Requeue,
    Send,
    TimeLimit,
    WorkerJob,
    as_bytes,
)
from gearman_py.worker.session import GIVE_BACK, Answer, Assignment, ResultTooLarge, must_fit
from gearman_py.worker.soft_limit import SoftLimit

_EXCEPTION_SIZE = 512  # bytes of an exception's text: a line to read, not a dump
_LONGEST_BACKOFF = 60.0  # seconds
_SWALLOWED = "what is around the job swallowed an error"

Rest = Callable[[float], bool]
"""Rests for so many seconds; true at once when the worker drains."""
RestAsync = Callable[[float], Awaitable[bool]]
Room = Callable[[], Awaitable[object]]
"""Waits until the server has read what was sent."""


def _rest(pause: float) -> bool:
    time.sleep(pause)
    return False


class Registry:
    """A worker's functions by the names they have on the wire.

    These begin with ``prefix``; once there is an ``address``, each function also has a second
    one that ends with ``@address``.
    """

    def __init__(
        self,
        *,
        prefix: str,
        serializer: Serializer | None,
        exceptions: bool,
        timeout: float | None = None,
        address: str = "",
    ) -> None:
        sendable("prefix", prefix)
        self.addressed(address)
        self.max_packet = MAX_PACKET
        self.rest: Rest = _rest
        self.sending: Callable[[], bool] = bool  # whether a message is half sent
        self.interruptible = False  # whether ^C is the caller's, and not an error of the job
        self.run_async: Callable[[Coroutine[Any, Any, object]], object] = asyncio.run
        self.declared: dict[str, Declared] = {}
        self.around: list[Around] = []
        self.on_startup: list[Hook] = []
        self.on_shutdown: list[Hook] = []
        self.on_outcome: list[OnOutcome] = []
        self._prefix = prefix
        self._serializer = serializer
        self._exceptions = exceptions
        self.limit_all(timeout)

    def __getstate__(self) -> dict[str, object]:
        """For another process: what was declared, and not how it is run here."""
        here = {"rest": _rest, "sending": bool, "run_async": asyncio.run}
        return {**vars(self), **here}

    def addressed(self, address: str) -> None:
        """The address of this very worker. Raises TypeError or ValueError."""
        sendable("address", address)
        self.address = address

    def limit_all(self, timeout: float | None) -> None:
        """So many seconds for the functions that have no limit of their own. Raises ValueError."""
        if timeout is not None:
            seconds("timeout", timeout)
        self.timeout = timeout

    def add(self, name: str, declared: Declared) -> None:
        """Raises ValueError for a name that cannot be, or is there already."""
        if self._prefix + named(name) in self.declared:
            raise ValueError(f"there is a function {name!r} already")
        self.declared[self._prefix + name] = declared

    def add_ping(self, name: str, *, alone: bool) -> None:
        """Serve ``name`` too, without prefix or address: it answers its workload.

        It runs where the other functions run, so its answer shows that they can. ``alone``: they
        are not served. Raises ValueError for a name that is there already.
        """
        if named(name) in self.declared:
            raise ValueError(f"there is a function {name!r} already")
        awaits = self.declared and all(one.awaits for one in self.declared.values())
        if alone:
            self.declared.clear()
        self.declared[name] = Declared(function=_echo_async if awaits else _echo, bare=True)

    def complete(self) -> None:
        """All are declared: give each its second name. Raises ValueError when there is none, or
        they do not go together."""
        if not self.declared:
            raise ValueError("a worker needs at least one function")
        own = {name: one for name, one in self.declared.items() if not one.bare}
        plain = [name for name, one in own.items() if not one.awaits]
        if plain and any(map(is_async, self.around)):
            text = f"{plain[0]} is not async, and cannot have an async context manager around it"
            raise ValueError(text)
        for name, one in self.declared.items():
            limit = self.time_limit(name)
            if one.soft_timeout and not (limit and one.soft_timeout < limit):
                text = f"{name}: soft_timeout is {one.soft_timeout}, and needs a longer timeout"
                raise ValueError(text)
        if self.address:
            own = {k: v for k, v in own.items() if not k.endswith(self._suffix)}
            self.declared |= {name + self._suffix: one for name, one in own.items()}

    def time_limit(self, function: str) -> float | None:
        """The seconds that a job of ``function`` may take."""
        return self.declared[function].timeout or self.timeout

    def server_limits(self) -> dict[str, float]:
        """The time limits for servers to enforce, in seconds."""
        found = {name: one.server_timeout for name, one in self.declared.items()}
        return {name: limit for name, limit in found.items() if limit is not None}

    def job(self, assignment: Assignment, server: str, send: Send) -> WorkerJob:
        """The job as its function is to see it."""
        job = WorkerJob(assignment, server, send, self._serializer, self.max_packet)
        job.function = job.function.removeprefix(self._prefix)
        if self.address:
            job.function = job.function.removesuffix(self._suffix)
        return job

    @property
    def _suffix(self) -> str:
        return f"@{self.address}"

    def _declared(self, job: WorkerJob) -> Declared:
        found = self.declared.get(self._prefix + job.function)
        return found or self.declared[job.function]  # a ping has no prefix

    # Running a job.

    def perform(self, job: WorkerJob) -> Answer:
        """Run a job's plain function."""
        declared = self._declared(job)
        if declared.soft_timeout is None:
            return self._attempts(declared, job, None)
        soft = SoftLimit(declared.soft_timeout, self.sending)
        try:
            with soft.held():
                return self._attempts(declared, job, soft)
        except TimeLimit as error:  # between two attempts
            return self._failed(job, error)

    def _attempts(self, declared: Declared, job: WorkerJob, soft: SoftLimit | None) -> Answer:
        backoff = None
        while True:
            try:
                return self._completed(job, self._call(declared, job))
            except BaseException as error:  # SystemExit too: a job must not end the worker
                if self.interruptible and isinstance(error, KeyboardInterrupt):
                    raise
                late = soft is not None and soft.rung
                if (answer := self._ended(declared, job, error, late=late)) is not None:
                    return answer
            backoff = backoff or Backoff(declared.backoff, _LONGEST_BACKOFF)
            if self.rest(backoff.next()):
                job.log.info("given back: the worker drains")
                return GIVE_BACK
            job.attempt += 1

    async def perform_async(self, job: WorkerJob, room: Room, rest: RestAsync) -> Answer:
        """Run a job's async function."""
        declared = self._declared(job)
        limit = declared.timeout or self.timeout
        if limit is None and declared.soft_timeout is None:
            return await self._attempts_async(declared, job, room, rest, None)
        try:
            async with asyncio.timeout(limit) as hard:
                if declared.soft_timeout is None:
                    return await self._attempts_async(declared, job, room, rest, None)
                async with asyncio.timeout(declared.soft_timeout) as soft:
                    return await self._attempts_async(declared, job, room, rest, soft.when())
        except TimeoutError:  # the function's own is answered above
            reached = limit if hard.expired() else declared.soft_timeout
            return self.too_late(job, reached or 0)

    async def _attempts_async(
        self, declared: Declared, job: WorkerJob, room: Room, rest: RestAsync, end: float | None
    ) -> Answer:
        backoff = None
        while True:
            try:
                return self._completed(job, await self._call_async(declared, job, room))
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise  # it is we who are cancelled, not something that the function awaits
                late = end is not None and asyncio.get_running_loop().time() >= end
                if (answer := self._ended(declared, job, error, late=late)) is not None:
                    return answer
            backoff = backoff or Backoff(declared.backoff, _LONGEST_BACKOFF)
            if await rest(backoff.next()):
                job.log.info("given back: the worker drains")
                return GIVE_BACK
            job.attempt += 1

    # How it ends.

    def too_late(self, job: WorkerJob, limit: float) -> Answer:
        """The answer for a job that was stopped at its time limit, in seconds."""
        job.log.error("stopped: it took longer than %g s", limit)
        return failure(f"TimeLimit: it took longer than {limit:g} s")

    def too_large(self, job: WorkerJob) -> Answer:
        """The answer for a job whose workload is over the limit."""
        job.log.error("failed: it is over the limit of %d bytes", self.max_packet)
        return failure(f"JobTooLarge: it is over the limit of {self.max_packet} (max_packet)")

    def broken(self, job: WorkerJob, error: Exception) -> Answer:
        """The answer for a job that our own machinery could not run."""
        job.log.error("could not be run", exc_info=error)
        return failure(f"WorkerError: {_one_line(error)}")

    def conclude(self, job: WorkerJob, answer: Answer, began: float) -> Answer:
        """Call the hooks, in a thread; the answer as the server is to have it.

        ``began`` is a time of time.monotonic().
        """
        tell(self.on_outcome, job, answer, began, self.run_async)
        return self._as_told(job, answer)

    async def conclude_async(self, job: WorkerJob, answer: Answer, began: float) -> Answer:
        """conclude(), in the event loop."""
        await tell_async(self.on_outcome, job, answer, began)
        return self._as_told(job, answer)

    def _as_told(self, job: WorkerJob, answer: Answer) -> Answer:
        if self._exceptions or answer.packet is not Packet.WORK_EXCEPTION:
            return answer
        job.send_warning(answer.arguments[0])
        return Answer(Packet.WORK_FAIL)

    def _completed(self, job: WorkerJob, value: Any) -> Answer:
        result = self._dump(value)
        must_fit(self.max_packet, job.handle, result)
        return Answer(Packet.WORK_COMPLETE, (result,))

    def _ended(
        self, declared: Declared, job: WorkerJob, error: BaseException, *, late: bool
    ) -> Answer | None:
        """The answer after an error; None: try again."""
        if isinstance(error, Requeue):
            job.log.info("given back: %s", error)
            return GIVE_BACK
        if isinstance(error, Failed):
            job.log.warning("failed: %s", str(error).rstrip() or "the function called fail()")
            return failure(str(error)) if error.args else Answer(Packet.WORK_FAIL)
        again = job.attempt <= declared.retries and isinstance(error, declared.errors)
        if again and not late and not isinstance(error, ResultTooLarge):
            job.log.warning("attempt %d failed: %s", job.attempt, _one_line(error))
            return None
        return self._failed(job, error)

    def _failed(self, job: WorkerJob, error: BaseException) -> Answer:
        if isinstance(error, ResultTooLarge):
            job.log.error("failed: %s", error)
        else:
            job.log.error("failed", exc_info=error)
        return failure(_one_line(error))

    # Calling a function, with what is around it. An error that is swallowed there counts.

    def _call(self, declared: Declared, job: WorkerJob) -> Any:
        if declared.bare or not self.around:
            return self._result(declared, job)
        error: BaseException = RuntimeError(_SWALLOWED)
        with ExitStack() as stack:
            try:
                for around in self.around:
                    manager = around(job)
                    only_async = not isinstance(manager, AbstractContextManager)
                    if only_async and isinstance(manager, AbstractAsyncContextManager):
                        raise TypeError(f"{job.function} is not async, and what is around it is")
                    stack.enter_context(cast("AbstractContextManager[object]", manager))
                return self._result(declared, job)
            except BaseException as raised:
                error = raised
                raise
        raise error

    def _result(self, declared: Declared, job: WorkerJob) -> Any:
        result = declared.function(job.value if declared.workload else job)
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(
                f"{job.function} returned a coroutine that would not be awaited; "
                "if it is decorated, define the decorator's inner function with async def"
            )
        return self._send_parts(job, result) if isinstance(result, GeneratorType) else result

    def _send_parts(self, job: WorkerJob, parts: Generator[Any, Any, Any]) -> Any:
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                return end.value
            job.send_data(self._dump(part))

    async def _call_async(self, declared: Declared, job: WorkerJob, room: Room) -> Any:
        if declared.bare or not self.around:
            return await self._result_async(declared, job, room)
        error: BaseException = RuntimeError(_SWALLOWED)
        async with AsyncExitStack() as stack:
            try:
                for around in self.around:
                    manager = around(job)
                    if isinstance(manager, AbstractAsyncContextManager):
                        await stack.enter_async_context(manager)
                    else:
                        stack.enter_context(manager)
                return await self._result_async(declared, job, room)
            except BaseException as raised:
                error = raised
                raise
        raise error

    async def _result_async(self, declared: Declared, job: WorkerJob, room: Room) -> Any:
        result = declared.function(job.value if declared.workload else job)
        if not isinstance(result, AsyncGenerator):
            return await result
        async for part in result:
            job.send_data(self._dump(part))
            await room()
        return None if self._serializer is None else b""

    def _dump(self, value: Any) -> bytes:
        if self._serializer is not None and not isinstance(value, bytes):
            value = self._serializer.dumps(value)
        return as_bytes(value)  # json.dumps gives str


def _echo(job: WorkerJob) -> bytes:
    return job.workload


async def _echo_async(job: WorkerJob) -> bytes:
    return job.workload


def failure(text: str) -> Answer:
    """The answer that tells the client ``text``."""
    line = text.encode(errors="backslashreplace")[:_EXCEPTION_SIZE]
    return Answer(Packet.WORK_EXCEPTION, (line,))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # an author's own class, and a job must not end the worker
        text = ""
    return " ".join(f"{type(error).__name__}: {text}".split()).rstrip(":")
