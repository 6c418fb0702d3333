"""What is declared of a worker: its functions and hooks. What is wrong is told at once, where
it was written, and not by the first job."""

import inspect
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypedDict

from gearman_py.worker.job import Outcome, WorkerJob

Function = Callable[[Any], Any]
Manager = AbstractContextManager[object] | AbstractAsyncContextManager[object]
Around = Callable[[WorkerJob], Manager]
Hook = Callable[[], object]
OnOutcome = Callable[[WorkerJob, Outcome], object]
_LONGEST = 1e9  # seconds: what every clock and every system call can count
Errors = type[BaseException] | Collection[type[BaseException]]
"""A class of exceptions, or several."""


class FunctionOptions(TypedDict, total=False):
    """What Worker.function() may be told; see there."""

    workload: bool
    timeout: float | None
    soft_timeout: float | None
    server_timeout: float | None
    retries: int
    retry_on: Errors
    backoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A function and what Worker.function() was told of it.

    Raises TypeError or ValueError for what makes no sense.
    """

    function: Function
    workload: bool = False
    timeout: float | None = None
    soft_timeout: float | None = None
    server_timeout: float | None = None
    retries: int = 0
    retry_on: Errors = (Exception,)
    backoff: float = 1.0
    bare: bool = False  # nothing that is around jobs is around these

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"{self.function!r} is not a function")
        for name in ("timeout", "soft_timeout", "server_timeout"):
            if (limit := getattr(self, name)) is not None:
                seconds(name, limit)
        whole("retries", self.retries, 0)
        seconds("backoff", self.backoff, zero=True)
        if self.soft_timeout and self.timeout and self.soft_timeout >= self.timeout:
            raise ValueError(
                f"soft_timeout is {self.soft_timeout}, and must be less than timeout, "
                f"{self.timeout}: it is the time to end by oneself"
            )
        object.__setattr__(self, "retry_on", _classes(self.retry_on))

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which it is tried again."""
        assert isinstance(self.retry_on, tuple)  # noqa: S101  since __post_init__
        return self.retry_on

    @property
    def awaits(self) -> bool:
        """Whether it is for the event loop."""
        function = self.function
        if not inspect.isroutine(function) and not isinstance(function, type):
            function = getattr(function, "func", None) or type(function).__call__
        return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _classes(given: Errors) -> tuple[type[BaseException], ...]:
    classes = tuple(given) if isinstance(given, Collection) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"retry_on holds {one!r}, which is not a class of exceptions")
    return classes


def named(name: str) -> str:
    """The name of a function. Raises TypeError or ValueError for what cannot be one."""
    if callable(name):
        raise TypeError('a function needs a name: write @worker.function("NAME")')
    if not isinstance(name, str):
        raise TypeError(f"{name!r} cannot be the name of a function: expected str")
    if not name.strip() or not _sendable(name):
        raise ValueError(f"{name!r} cannot be the name of a function")
    return name


def word(option: str, value: str) -> None:
    """Raises TypeError or ValueError for what cannot be one word of a job server's listing."""
    sendable(option, value)
    if any(letter.isspace() for letter in value):
        raise ValueError(f"{option} {value!r} holds a space, which parts words there")


def sendable(option: str, value: str) -> None:
    """Raises TypeError or ValueError for what cannot be part of a name."""
    if not isinstance(value, str):
        raise TypeError(f"{option} is {value!r}: expected str")
    if not _sendable(value):
        raise ValueError(f"{option} {value!r} cannot be sent")


def _sendable(name: str) -> bool:
    try:
        return b"\0" not in name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False


def manager(around: Around) -> Around:
    """What is to be around jobs. Raises TypeError for what returns no context manager."""
    if not callable(around):
        raise TypeError(f"{around!r} is not a function")
    for wrong, add in (
        (inspect.isgeneratorfunction, "@contextmanager"),
        (inspect.isasyncgenfunction, "@asynccontextmanager"),
        (inspect.iscoroutinefunction, "@asynccontextmanager, with a yield"),
    ):
        if wrong(around):
            raise TypeError(f"around() takes what returns a context manager: add {add}")
    return around


def is_async(around: Around) -> bool:
    """Whether it was made by @asynccontextmanager: async functions alone can have it around."""
    return inspect.isasyncgenfunction(inspect.unwrap(around))


def hook(function: Any) -> Any:
    """What is to be called. Raises TypeError for what cannot be, or would do nothing."""
    if not callable(function):
        raise TypeError(f"{function!r} is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} has a yield, so that calling it would run nothing")
    return function


def seconds(name: str, value: float, *, zero: bool = False) -> None:
    """Raises TypeError or ValueError for what is not a time to wait."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}: expected seconds")
    if not 0 <= value <= _LONGEST or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0, or None for no limit"
        raise ValueError(f"{name} is {value}: expected seconds, {least}")


def whole(name: str, value: int, least: int, most: int = sys.maxsize) -> None:
    """Raises TypeError or ValueError for what is not a whole number of ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}: expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}, and must be {least} at least")
    if value > most:
        raise ValueError(f"{name} is {value}, and must be {most} at most")
