"""The options of Worker.function(), and the types of other things that can be declared."""

import inspect
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from gearman_py.worker.job import Outcome, WorkerJob
from gearman_py.worker.validation import (
    check_arguments,
    check_seconds,
    check_whole_number,
    exception_classes,
)

_MILLISECOND = 0.001  # seconds

Function = Callable[[Any], Any]
ContextManager = AbstractContextManager[object] | AbstractAsyncContextManager[object]
Middleware = Callable[[WorkerJob], ContextManager]
Hook = Callable[[], object]
OnOutcome = Callable[[WorkerJob, Outcome], object]
RetryOn = type[BaseException] | Collection[type[BaseException]]
"""A class of exceptions, or several."""


class FunctionOptions(TypedDict, total=False):
    """The options of Worker.function(), which documents them."""

    workload: bool
    timeout: float | None
    soft_timeout: float | None
    server_timeout: float | None
    retries: int
    retry_on: RetryOn
    backoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function and its options. Raises TypeError or ValueError for invalid ones."""

    function: Function
    workload: bool = False
    timeout: float | None = None
    soft_timeout: float | None = None
    server_timeout: float | None = None
    retries: int = 0
    retry_on: RetryOn = (Exception,)
    backoff: float = 1.0
    bare: bool = False  # called without the worker's context managers

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"{self.function!r} is not a function")
        check_arguments(self.function, "workload" if self.workload else "job")
        if not isinstance(self.workload, bool):
            raise TypeError(f"workload is {self.workload!r}; expected True or False")
        for name in ("timeout", "soft_timeout", "server_timeout"):
            if (limit := getattr(self, name)) is not None:
                check_seconds(name, limit)
        if self.server_timeout is not None and self.server_timeout < _MILLISECOND:
            raise ValueError(f"server_timeout is {self.server_timeout}; servers count milliseconds")
        check_whole_number("retries", self.retries, 0)
        check_seconds("backoff", self.backoff, zero=True)
        if self.soft_timeout and self.timeout and self.soft_timeout >= self.timeout:
            raise ValueError(
                f"soft_timeout is {self.soft_timeout}, and must be less than timeout, "
                f"{self.timeout}: in between, the function can end on its own"
            )
        object.__setattr__(self, "retry_on", exception_classes(self.retry_on))

    def limited_to(self, seconds: float) -> "FunctionSpec":
        """The same, with at most this time for a job: a longer limit of its own gives way."""
        timeout = min(self.timeout or seconds, seconds)
        soft = self.soft_timeout if self.soft_timeout and self.soft_timeout < seconds else None
        return replace(self, timeout=timeout, soft_timeout=soft)

    @property
    def retry_errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which the function is called again."""
        assert isinstance(self.retry_on, tuple)  # noqa: S101  since __post_init__
        return self.retry_on

    @property
    def is_async(self) -> bool:
        """Whether it runs in the event loop."""
        function = self.function
        if not inspect.isroutine(function) and not isinstance(function, type):
            function = getattr(function, "func", None) or type(function).__call__
        return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
