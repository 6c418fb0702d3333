"""Checks arguments where they are given, not when the first job arrives."""

import inspect
import sys
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Any, TypeVar

_LONGEST_NAME = 8192  # bytes of a function's name that a job server reads
_LONGEST = 1e9  # seconds that every clock and every system call can represent

F = TypeVar("F", bound=Callable[..., Any])

imported_module: ContextVar[str] = ContextVar("imported_module", default="")
"""The module that is being imported for a worker that is run afterwards."""


def check_function_name(name: str) -> str:
    """Return the name of a function. Raises TypeError or ValueError if it is invalid."""
    if callable(name):
        raise TypeError('a function needs a name: write @worker.function("NAME")')
    if not isinstance(name, str):
        raise TypeError(f"{name!r} cannot be the name of a function; expected str")
    if not name.strip() or not _is_sendable(name):
        raise ValueError(f"{name!r} cannot be the name of a function")
    if (size := len(name.encode(errors="surrogateescape"))) > _LONGEST_NAME:
        raise ValueError(
            f"the name of a function has {size} bytes; expected at most {_LONGEST_NAME}"
        )
    return name


def check_may_run() -> None:
    """Raises RuntimeError while a module is imported for its worker: it would be run twice."""
    if name := imported_module.get():
        raise RuntimeError(
            f'{name} runs a worker when it is imported; put that under `if __name__ == "__main__":`'
        )


def check_arguments(function: Callable[..., Any], *given: str) -> None:
    """Raises TypeError for a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # as of some functions that are written in C
        return
    try:
        signature.bind(*given)
    except TypeError:
        name = getattr(function, "__qualname__", repr(function))
        with_them = ", ".join(given) or "no arguments"
        raise TypeError(f"{name} takes {signature}, and is called with {with_them}") from None


def check_single_word(option: str, value: str) -> None:
    """Raises TypeError or ValueError unless the value is one word, as listings of a server need."""
    check_sendable(option, value)
    if any(letter.isspace() for letter in value):
        raise ValueError(f"{option} {value!r} contains a space, which separates words there")


def check_sendable(option: str, value: str) -> None:
    """Raises TypeError or ValueError for a value that cannot be part of a name."""
    if not isinstance(value, str):
        raise TypeError(f"{option} is {value!r}; expected str")
    if not _is_sendable(value):
        raise ValueError(f"{option} {value!r} cannot be sent")


def _is_sendable(name: str) -> bool:
    try:
        return b"\0" not in name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False


def check_middleware(function: F) -> F:
    """Return the function. Raises TypeError if it does not return a context manager."""
    if not callable(function):
        raise TypeError(f"{function!r} is not a function")
    for is_wrong, decorator in (
        (inspect.isgeneratorfunction, "@contextmanager"),
        (inspect.isasyncgenfunction, "@asynccontextmanager"),
        (inspect.iscoroutinefunction, "@asynccontextmanager, with a yield"),
    ):
        if is_wrong(function):
            raise TypeError(
                f"around() needs a function returning a context manager: add {decorator}"
            )
    return function


def is_async_middleware(function: Callable[..., Any]) -> bool:
    """Whether it was made by @asynccontextmanager, and so can only surround async functions."""
    return inspect.isasyncgenfunction(inspect.unwrap(function))


def check_hook(function: F, *given: str) -> F:
    """Return the function. Raises TypeError if it cannot be called with the arguments ``given``,
    or would do nothing."""
    if not callable(function):
        raise TypeError(f"{function!r} is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} contains a yield, so calling it would not run anything")
    check_arguments(function, *given)
    return function


def exception_classes(
    given: type[BaseException] | Collection[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    """Return one class, or several, as a tuple. Raises TypeError for anything else."""
    classes = tuple(given) if isinstance(given, Collection) else (given,)
    if not classes:
        raise ValueError("retry_on is empty; expected an exception class, or several")
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise TypeError(f"retry_on contains {item!r}, which is not an exception class")
    return classes


def check_seconds(name: str, value: float, *, zero: bool = False) -> None:
    """Raises TypeError or ValueError for an invalid number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}; expected seconds")
    if not 0 <= value <= _LONGEST or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0, or None for no limit"
        raise ValueError(f"{name} is {value}; expected seconds, {least} (at most {_LONGEST:.0f})")


def check_whole_number(name: str, value: int, least: int, most: int = sys.maxsize) -> None:
    """Raises TypeError or ValueError unless it is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}, and must be at least {least}")
    if value > most:
        raise ValueError(f"{name} is {value}, and must be at most {most}")


def check_process_count(value: int | tuple[int, int]) -> None:
    """Raises TypeError or ValueError unless it is a whole number, or the least and the most."""
    if not isinstance(value, tuple):
        check_whole_number("processes", value, 0)
        return
    if len(value) != 2:
        raise ValueError(f"processes is {value!r}; expected a whole number, or (MIN, MAX)")
    check_whole_number("the first of processes", value[0], 1)
    check_whole_number("the second of processes", value[1], value[0])
