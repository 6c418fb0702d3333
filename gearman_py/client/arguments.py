"""The arguments of callers, checked and converted to what goes on the wire."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from types import EllipsisType
from typing import Any, Literal, TypedDict, TypeVar, cast

from gearman_py.errors import ArgumentTooLarge

Data = bytes | str
Priority = Literal["low", "normal", "high"]
Unique = str | bytes | Literal[True] | None
At = datetime | float | None
OnData = Callable[[bytes], object]
"""With AsyncClient it may be ``async``: what it returns is awaited."""
OnStatus = Callable[[int, int], object]
Timeout = float | EllipsisType | None
"""Seconds, None for no limit, or ... for the client's own limit."""

MAX_UNIQUE = 64  # bytes; a longer one is refused by the C server
_BATCH = 512
BY_CONTENT = "-"  # the unique that means: the workload is the key


@dataclass(slots=True, kw_only=True)
class Submit:
    """The arguments of submit() as one object, for submit_many()."""

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

    def options(self) -> "SubmitOptions":
        """The arguments that are not the default, but for function and workload."""
        given = ((one.name, one.default, getattr(self, one.name)) for one in _OPTIONS)
        options = {name: value for name, default, value in given if value is not default}
        return cast("SubmitOptions", options)


_, _, *_OPTIONS = fields(Submit)


class JobOptions(TypedDict, total=False):
    """The options of call() and map(); see Client.submit()."""

    unique: Unique
    priority: Priority
    background: bool
    at: At
    reducer: str | None
    on_data: OnData | None
    on_warning: OnData | None
    on_status: OnStatus | None


NO_OPTIONS: JobOptions = {}


class SubmitOptions(JobOptions, total=False):
    """The options of submit(); see there."""

    value: Any


class MapOptions(JobOptions, total=False):
    """The options of call_map(); see Client.map()."""

    in_flight: int
    in_flight_bytes: int
    ordered: bool
    timeout: Timeout
    on_error: Literal["raise", "yield"]


def with_priority(priority: Priority, options: SubmitOptions) -> SubmitOptions:
    """The options with the priority in a method's name. Raises TypeError if they have one."""
    if "priority" in options:
        raise TypeError(f"the name of this method sets the priority to {priority}")
    return {**options, "priority": priority}


def as_bytes(data: Data) -> bytes:
    """A workload as it goes on the wire: text as UTF-8. Raises TypeError for other types."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode()
    try:
        return bytes(memoryview(data))  # bytes(5) would be five NULs
    except TypeError:
        kind = type(data).__name__
        text = f"a workload is bytes or str, not {kind}; call() takes other values"
        raise TypeError(text) from None


def as_unique(unique: Unique) -> str:
    """A unique as it goes on the wire; True means that the workload identifies the job.

    Raises ArgumentTooLarge over 64 bytes, ValueError if it contains a NUL.
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
    """The name of a function. Raises ValueError if it is empty or contains a NUL."""
    if not function:
        raise ValueError("the name of the function is empty")
    return _without_nul("function", function)


def as_epoch(at: At) -> int | None:
    """Whole seconds since 1970, rounded up. Raises ValueError."""
    if at is None:
        return None
    seconds = at.timestamp() if isinstance(at, datetime) else float(at)
    if not 0 <= seconds < 2**63:
        raise ValueError(f"at={at!r} is not a time since 1970")
    return int(seconds) + (seconds % 1 > 0)


T = TypeVar("T")


def split_batches(jobs: list[T]) -> Iterator[list[T]]:
    """The jobs in groups, each written at once and accepted before the next."""
    return (jobs[start : start + _BATCH] for start in range(0, len(jobs), _BATCH))


def _without_nul(what: str, name: str) -> str:
    if "\0" in name:
        raise ValueError(f"the {what} {name!r} contains a NUL, which ends names on the wire")
    return name
