"""One thread that runs plain functions, so that the event loop stays free.

It is a daemon: a function that never ends cannot keep the process from leaving.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class JobThread:
    """Runs one function after the other; started by the first."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def run(self, function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """A future of what ``function`` returns or raises. Call it in the event loop."""
        if self._thread is None:
            self._thread = Thread(target=self._loop, name="gearman-job", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._work.put(partial(_run, loop, future, function, arguments))
        return future

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._work.put(None)
        self._thread = None

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _run(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[T]",
    function: Callable[..., T],
    arguments: tuple[Any, ...],
) -> None:
    try:
        result = function(*arguments)
    except BaseException as error:  # SystemExit too: a job must not end the worker
        outcome = partial(_fail, future, error)
    else:
        outcome = partial(_succeed, future, result)
    try:
        loop.call_soon_threadsafe(outcome)
    except RuntimeError:  # the loop has been closed: the worker was told not to wait
        pass


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[T]", error: BaseException) -> None:
    if not future.done():
        if isinstance(error, StopIteration):  # the one that a future refuses
            error = RuntimeError(f"StopIteration: {error}")
        future.set_exception(error)
