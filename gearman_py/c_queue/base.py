"""What the readers of the C gearmand's stored queues have in common."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gearman_py.printable import printable, shorten

HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 2
UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""The unique that libgearman gives to a job without one."""


class SourceError(Exception):
    """The queue cannot be read at all; the message is for operators."""


class StoredJob(NamedTuple):
    """A background job; ``due`` is when it is to run (seconds since 1970; 0: at once)."""

    function: bytes
    unique: bytes
    priority: int
    due: int
    workload: bytes


class Unreadable(NamedTuple):
    """A row or key that is not a job: which one, and why."""

    where: str
    reason: str


Row = StoredJob | Unreadable
Rows = Iterator[Row]


def check_row(
    where: str, function: object, unique: object, priority: object, due: object, workload: object
) -> Row:
    """The job in these columns, if it is one; NULL stands for "", normal priority, and at once."""
    unique = b"" if unique is None else unique
    workload = b"" if workload is None else workload
    if not (isinstance(function, bytes) and function and b"\0" not in function):
        return Unreadable(where, f"its function is {_show(function)}")
    if not (isinstance(unique, bytes) and b"\0" not in unique):
        return Unreadable(where, f"its unique is {_show(unique)}")
    if not isinstance(workload, bytes):
        return Unreadable(where, f"its workload is {_show(workload)}")
    number = 1 if priority is None else priority
    if not (isinstance(number, int) and HIGHEST_PRIORITY <= number <= LOWEST_PRIORITY):
        return Unreadable(where, f"its priority is {_show(priority)}, not 0, 1 or 2")
    if not (due is None or (isinstance(due, int) and due >= 0)):
        return Unreadable(where, f"its time is {_show(due)}")
    return StoredJob(function, unique, number, due or 0, workload)


def split_key(key: bytes, functions: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """The function and unique in ``FUNCTION-UNIQUE``; None if both may contain the hyphen.

    A function of ``functions`` is preferred, the longest first; then a unique that is a UUID.
    """
    for function in sorted(functions, key=len, reverse=True):
        if key.startswith(function + b"-"):
            return function, key[len(function) + 1 :]
    if UUID.fullmatch(key[-36:]) and key[-37:-36] == b"-":
        return key[:-37], key[-36:]
    if key.count(b"-") == 1:
        function, _, unique = key.partition(b"-")
        return function, unique
    return None


def ambiguous(where: str) -> Unreadable:
    """A key that ``split_key`` cannot split."""
    return Unreadable(
        where, "the key does not tell where its function ends; add functions=NAME,..."
    )


def name_row(function: object, unique: object) -> str:
    """A row of a table, for operators."""
    return f"function {_show(function)}, unique {_show(unique)}"


def name_bytes(value: bytes) -> str:
    """A name or key, for operators."""
    return printable(shorten(value.decode(errors="surrogateescape"), 100), keep="")


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return f"'{name_bytes(value)}'"
    return "NULL" if value is None else repr(value)
