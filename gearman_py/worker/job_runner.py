"""Runs a job: time limits, retries, and how it ends.

Wherever it runs, in a thread, a process or the event loop, a job ends in one Answer. Only
connection errors are raised: errors of the function, and bugs in gearman_py, fail the job.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gearman_py.errors import DataTooLarge
from gearman_py.printable import shorten
from gearman_py.protocol.packets import Packet
from gearman_py.worker.author_traceback import author_traceback, format_author_error
from gearman_py.worker.function_call import FunctionCaller, WaitWritable
from gearman_py.worker.function_spec import FunctionSpec
from gearman_py.worker.hooks import call_outcome_hooks, call_outcome_hooks_async
from gearman_py.worker.job import FunctionFailed, Requeue, Send, TimeLimit, WorkerJob
from gearman_py.worker.registry import FunctionRegistry
from gearman_py.worker.retries import may_retry, retry_pause
from gearman_py.worker.session import GIVE_BACK, NO_DELAY, Answer, Assignment, must_fit
from gearman_py.worker.soft_limit import SendGuard, SoftLimit

_COMPLETE = Packet.WORK_COMPLETE
_EXCEPTION_SIZE = 512  # bytes of an exception's text: a line to read, not a dump
_LOGGED_TEXT = 2000  # characters of an error's text, and ...
_LOGGED_TRACEBACK = 20_000  # ... of its traceback, in the log

WaitForDrain = Callable[[float], bool]
"""Waits for some seconds, or until the worker drains; returns whether it drains."""
WaitForDrainAsync = Callable[[float], Awaitable[bool]]


class JobRunner:
    """Runs jobs of the functions in ``registry``; packets are bounded by ``max_packet`` bytes."""

    def __init__(
        self, registry: FunctionRegistry, max_packet: int, wait_for_drain: WaitForDrain
    ) -> None:
        self.registry = registry
        self.send_guard = SendGuard()
        self.interruptible = False  # whether ^C is raised to the caller instead of failing the job
        self.run_in_loop: Callable[[Coroutine[Any, Any, object]], object] = asyncio.run
        self._max_packet = max_packet
        self._wait_for_drain = wait_for_drain
        self._caller = FunctionCaller(registry.middlewares, registry.serializer)

    def make_job(self, assignment: Assignment, server: str, send: Send) -> WorkerJob:
        """The job as its function sees it."""
        return self.registry.make_job(assignment, server, send, self._max_packet)

    def run_plain(self, job: WorkerJob) -> Answer:
        """Run a job's plain function."""
        spec = self.registry.find_spec(job)
        if spec.soft_timeout is None:
            return self._run_attempts(spec, job, None)
        soft = SoftLimit(spec.soft_timeout, self.send_guard)
        try:
            with soft.time_limited():
                return self._run_attempts(spec, job, soft)
        except TimeLimit as error:  # between two attempts
            return self._fail_with_error(job, error)

    def _run_attempts(self, spec: FunctionSpec, job: WorkerJob, soft: SoftLimit | None) -> Answer:
        while True:
            try:
                return self._complete_job(job, self._caller.call_plain(spec, job))
            except BaseException as error:  # SystemExit too: a job must not end the worker
                if self.interruptible and isinstance(error, KeyboardInterrupt):
                    raise
                late = soft is not None and soft.expired
                if (answer := self._answer_error(spec, job, error, late=late)) is not None:
                    return answer
            if self._wait_for_drain(retry_pause(spec, job.attempt)):
                job.log.info("given back: the worker drains")
                return GIVE_BACK
            job.attempt += 1

    async def run_async(
        self, job: WorkerJob, wait_writable: WaitWritable, wait_for_drain: WaitForDrainAsync
    ) -> Answer:
        """Run a job's async function."""
        spec = self.registry.find_spec(job)
        limit = spec.timeout or self.registry.timeout
        if limit is None and spec.soft_timeout is None:
            return await self._run_attempts_async(spec, job, wait_writable, wait_for_drain, None)
        try:
            async with asyncio.timeout(limit) as hard, asyncio.timeout(spec.soft_timeout) as soft:
                return await self._run_attempts_async(
                    spec, job, wait_writable, wait_for_drain, soft.when()
                )
        except TimeoutError:  # a TimeoutError of the function itself is answered above
            reached = limit if hard.expired() else spec.soft_timeout
            return time_limit_reached(job, reached or 0)

    async def _run_attempts_async(
        self,
        spec: FunctionSpec,
        job: WorkerJob,
        wait_writable: WaitWritable,
        wait_for_drain: WaitForDrainAsync,
        soft_end: float | None,
    ) -> Answer:
        while True:
            try:
                return self._complete_job(
                    job, await self._caller.call_async(spec, job, wait_writable)
                )
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise  # this task itself is cancelled, not something that the function awaits
                late = soft_end is not None and asyncio.get_running_loop().time() >= soft_end
                if (answer := self._answer_error(spec, job, error, late=late)) is not None:
                    return answer
            if await wait_for_drain(retry_pause(spec, job.attempt)):
                job.log.info("given back: the worker drains")
                return GIVE_BACK
            job.attempt += 1

    # How a job ends.

    def _complete_job(self, job: WorkerJob, result: bytes) -> Answer:
        must_fit(self._max_packet, job.handle, result)
        return Answer(_COMPLETE, (result,))

    def _answer_error(
        self, spec: FunctionSpec, job: WorkerJob, error: BaseException, *, late: bool
    ) -> Answer | None:
        """The answer after an error; None means that the job is tried again here."""
        if isinstance(error, Requeue):
            why = shorten(str(error), _LOGGED_TEXT)
            job.log.info("given back: %s", why)
            if not job.is_postponable:
                return GIVE_BACK
            return _postpone(error.delay, why) if error.delay else _give_back(why)
        if isinstance(error, FunctionFailed):
            why = shorten(str(error), _LOGGED_TEXT).rstrip()
            job.log.warning("failed: %s", why or "the function called fail()")
            return failure_answer(str(error)) if error.args else Answer(Packet.WORK_FAIL)
        if not late and may_retry(spec, job.attempt, error):
            job.log.warning("attempt %d failed: %s", job.attempt, _one_line(error))
            if not job.is_postponable:
                return None
            return _postpone(retry_pause(spec, job.attempt), _one_line(error))
        return self._fail_with_error(job, error)

    def _fail_with_error(self, job: WorkerJob, error: BaseException) -> Answer:
        if isinstance(error, DataTooLarge):
            job.log.error("failed: %s", error)
            return failure_answer(f"ResultTooLarge: {error}")
        _log_traceback(job, "failed", error)
        return failure_answer(_one_line(error))

    def refuse_oversized(self, job: WorkerJob) -> Answer:
        """The answer for a job whose workload is over the limit."""
        job.log.error("failed: it is over the limit of %d bytes", self._max_packet)
        text = f"JobTooLarge: it is over the limit of {self._max_packet} (max_packet)"
        return failure_answer(text)

    def report_outcome(self, job: WorkerJob, answer: Answer, began: float) -> Answer:
        """Call the on_outcome hooks, in a thread; returns the answer to be sent.

        ``began`` is a time of time.monotonic().
        """
        if self.registry.on_outcome:
            call_outcome_hooks(self.registry.on_outcome, job, answer, began, self.run_in_loop)
        return self._finish_answer(job, answer)

    async def report_outcome_async(self, job: WorkerJob, answer: Answer, began: float) -> Answer:
        """report_outcome(), in the event loop."""
        await call_outcome_hooks_async(self.registry.on_outcome, job, answer, began)
        return self._finish_answer(job, answer)

    def _finish_answer(self, job: WorkerJob, answer: Answer) -> Answer:
        if self.registry.job_proof is not None and answer.packet is _COMPLETE:
            self.registry.job_proof.send_proof(job, answer.arguments[0])
        if self.registry.exceptions or answer.packet is not Packet.WORK_EXCEPTION:
            return answer
        job.send_warning(answer.arguments[0])
        return Answer(Packet.WORK_FAIL)


def time_limit_reached(job: WorkerJob, limit: float) -> Answer:
    """The answer for a job that was stopped at its time limit, in seconds."""
    job.log.error("stopped: it took longer than %g s", limit)
    return failure_answer(f"TimeLimit: it took longer than {limit:g} s")


def worker_error(job: WorkerJob, error: Exception) -> Answer:
    """The answer for a job that could not be run because of a bug in gearman_py."""
    _log_traceback(job, "could not be run", error)
    return failure_answer(f"WorkerError: {_one_line(error)}")


def failure_answer(text: str) -> Answer:
    """The answer that tells the client ``text``."""
    return Answer(Packet.WORK_EXCEPTION, (_cut_text(text),))


def _postpone(seconds: float, why: str) -> Answer:
    """The answer with which the server takes a job back, for later."""
    return Answer(Packet.WORK_RETRY, (b"%d" % round(seconds * 1000), _cut_text(why)))


def _give_back(why: str) -> Answer:
    """The answer with which the server takes a job back, for any worker to run it now."""
    return Answer(Packet.WORK_RETRY, (NO_DELAY, _cut_text(why)))


def _cut_text(text: str) -> bytes:
    return text.encode(errors="backslashreplace")[:_EXCEPTION_SIZE]


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_traceback(job: WorkerJob, message: str, error: BaseException) -> None:
    """Log the error with its traceback, however long the texts of its chain are."""
    try:
        text = format_author_error(error)
    except Exception:  # a method of the author's class
        text = ""
    if len(text) <= _LOGGED_TRACEBACK:
        job.log.error(message, exc_info=(type(error), error, author_traceback(error)))
    else:
        job.log.error("%s\n%s", message, shorten(text, _LOGGED_TRACEBACK))


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # the class is the author's, and a job must not end the worker
        text = ""
    text = shorten(text, _LOGGED_TEXT)
    return " ".join(f"{type(error).__name__}: {text}".split()).rstrip(":")
