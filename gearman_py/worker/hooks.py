"""Calls a worker's hooks; exceptions that they raise are logged and have no other effect."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, cast

from gearman_py.protocol.packets import Packet
from gearman_py.worker.function_spec import Hook, OnOutcome
from gearman_py.worker.job import How, Outcome, WorkerJob
from gearman_py.worker.session import GIVEN_BACK, Answer

_log = logging.getLogger("gearman_py.worker")

_HOW: dict[Packet, How] = {
    Packet.WORK_COMPLETE: "complete",
    **dict.fromkeys(GIVEN_BACK, "given back"),
}


async def as_coroutine(call: Awaitable[object]) -> None:
    """Any awaitable as a coroutine."""
    await call


def shut_down(hooks: Iterable[Hook]) -> None:
    """Call on_shutdown hooks, in a thread without an event loop."""
    for hook in hooks:
        with _shutdown_errors_logged():
            if isawaitable(called := hook()):
                asyncio.run(as_coroutine(called))


async def shut_down_async(hooks: Iterable[Hook]) -> None:
    """shut_down(), in the event loop."""
    for hook in hooks:
        with _shutdown_errors_logged():
            if isawaitable(called := hook()):
                await called


@contextmanager
def _shutdown_errors_logged() -> Iterator[None]:
    try:
        yield
    except Exception:
        _log.exception("an on_shutdown function failed")


def call_outcome_hooks(
    hooks: Iterable[OnOutcome],
    job: WorkerJob,
    answer: Answer,
    began: float,
    run_in_loop: Callable[[Coroutine[Any, Any, object]], object],
) -> None:
    """Call on_outcome hooks, in a thread. ``began`` is a time of time.monotonic()."""
    for hook in hooks:
        with _outcome_errors_logged(job):
            called = hook(job, _make_outcome(answer, began))
            if isawaitable(called):
                run_in_loop(_await_hook(job, called))


async def call_outcome_hooks_async(
    hooks: Iterable[OnOutcome], job: WorkerJob, answer: Answer, began: float
) -> None:
    """call_outcome_hooks(), in the event loop."""
    for hook in hooks:
        with _outcome_errors_logged(job):
            called = hook(job, _make_outcome(answer, began))
            if isawaitable(called):
                await _await_hook(job, called)


@contextmanager
def _outcome_errors_logged(job: WorkerJob) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit):  # in an event loop, SystemExit would end the worker
        job.log.exception("an on_outcome function failed")


async def _await_hook(job: WorkerJob, call: Awaitable[object]) -> None:
    task = cast("asyncio.Task[object]", asyncio.current_task())
    with _outcome_errors_logged(job):
        try:
            await call
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise  # this task itself is cancelled, not something that the hook awaits
            raise RuntimeError("something it awaited was cancelled") from error


def _make_outcome(answer: Answer, began: float) -> Outcome:
    why = b"".join(answer.arguments) if answer.packet is Packet.WORK_EXCEPTION else b""
    how = _HOW.get(answer.packet, "failed")
    return Outcome(how, why.decode(errors="replace"), time.monotonic() - began)
