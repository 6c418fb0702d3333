"""What callers give, as it goes on the wire."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any, Literal, TypedDict, TypeVar

from gearman_py.errors import ArgumentTooLarge

Data = bytes | str
Priority = Literal["low", "normal", "high"]
Unique = str | bytes | Literal[True] | None
At = datetime | float | None
OnData = Callable[[bytes], object]
"""In an AsyncClient it may be ``async``: what it returns is awaited."""
OnStatus = Callable[[int, int], object]
Timeout = float | EllipsisType | None
"""Seconds, None for no limit, or ... for the client's own limit."""

MAX_UNIQUE = 64  # bytes; a longer one is refused by the C server
_BATCH = 512
BY_CONTENT = "-"  # the unique that means: the workload is the key


@dataclass(slots=True, kw_only=True)
class Submit:
    """What submit() is told of a job, for submit_many()."""

    function: str
    workload: Data = b""
    value: Any = ...
    unique: Unique = None
    priority: Priority = "normal"
    background: bool = False
    at: At = None
    reducer: str | None = None
    on_data: OnData | None = None
    on_warning: OnData | None = None
    on_status: OnStatus | None = None


class Options(TypedDict, total=False):
    """What call() and map() may be told of a job; see Client.submit()."""

    unique: Unique
    priority: Priority
    background: bool
    at: At
    reducer: str | None
    on_data: OnData | None
    on_warning: OnData | None
    on_status: OnStatus | None


class SubmitOptions(Options, total=False):
    """What submit() may be told beside function and workload; see Client.submit()."""

    value: Any


class MapOptions(Options, total=False):
    """What map() may be told beside function and workloads; see Client.map()."""

    in_flight: int
    in_flight_bytes: int
    ordered: bool
    timeout: Timeout
    on_error: Literal["raise", "yield"]


def with_priority(priority: Priority, options: SubmitOptions) -> SubmitOptions:
    """The options, with the priority that a method's name says. Raises TypeError for another."""
    if "priority" in options:
        raise TypeError(f"this method's name says that the priority is {priority}")
    return {**options, "priority": priority}


def as_bytes(data: Data) -> bytes:
    """A workload as it goes on the wire: text is UTF-8. Raises TypeError for what is neither."""
    if isinstance(data, str):
        return data.encode()
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))  # bytes(5) would be five NULs
    except TypeError:
        kind = type(data).__name__
        text = f"a workload is bytes or str, not {kind}: call() takes other values"
        raise TypeError(text) from None


def as_unique(unique: Unique) -> str:
    """A unique as it goes on the wire; True means: the same workload is the same job.

    Raises ArgumentTooLarge over 64 bytes, ValueError for a NUL in it.
    """
    if unique is True:
        return BY_CONTENT
    if unique is None:
        return ""
    name = unique if isinstance(unique, str) else unique.decode(errors="surrogateescape")
    size = len(name.encode(errors="surrogateescape"))
    if size > MAX_UNIQUE:
        text = f"a unique of {size} bytes is over the limit of {MAX_UNIQUE}"
        raise ArgumentTooLarge("ARGUMENT_TOO_LARGE", text)
    return _without_nul("unique", name)


def as_function(function: str) -> str:
    """A function's name, checked. Raises ValueError when it is empty or holds a NUL."""
    if not function:
        raise ValueError("a job needs the name of a function, and it is empty")
    return _without_nul("function", function)


def as_epoch(at: At) -> int | None:
    """Whole seconds since 1970, never before the time that was meant. Raises ValueError."""
    if at is None:
        return None
    seconds = at.timestamp() if isinstance(at, datetime) else float(at)
    if not 0 <= seconds < 2**63:
        raise ValueError(f"at={at!r} is no time since 1970")
    return int(seconds) + (seconds % 1 > 0)


T = TypeVar("T")


def batches(jobs: list[T]) -> Iterator[list[T]]:
    """The jobs in as many as are written at once, and accepted before more are."""
    return (jobs[start : start + _BATCH] for start in range(0, len(jobs), _BATCH))


def _without_nul(what: str, name: str) -> str:
    if "\0" in name:
        raise ValueError(f"the {what} {name!r} holds a NUL, which ends names on the wire")
    return name
