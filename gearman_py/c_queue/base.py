"""What the readers of the C gearmand's stored queues have in common."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gearman_py.printable import printable, shorten

HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 2
UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""The unique that libgearman gives to a job without one."""
CUT_UNIQUE = 64  # bytes: the C gearmand keeps 63 of such a unique, and a NUL


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
    """A row or key that is not a job: which one, and why; ``is_rest``: all that follow, too."""

    where: str
    reason: str
    is_rest: bool = False


Row = StoredJob | Unreadable
Rows = Iterator[Row]
Names = tuple[bytes, bytes]
"""A function and a unique."""


def check_row(
    where: str, function: object, unique: object, priority: object, due: object, workload: object
) -> Row:
    """The job in these columns, if it is one; NULL stands for "", normal priority, and at once."""
    unique = b"" if unique is None else unique
    if isinstance(unique, bytes) and len(unique) == CUT_UNIQUE:
        unique = unique.removesuffix(b"\0")
    workload = b"" if workload is None else workload
    if not (isinstance(function, bytes) and function and b"\0" not in function):
        return Unreadable(where, f"its function is {_show(function)}, not a name")
    if not (isinstance(unique, bytes) and b"\0" not in unique):
        return Unreadable(where, f"its unique is {_show(unique)}, not text without NUL bytes")
    if not isinstance(workload, bytes):
        return Unreadable(where, f"its workload is {_show(workload)}, not bytes")
    number = 1 if priority is None else priority
    if not (isinstance(number, int) and HIGHEST_PRIORITY <= number <= LOWEST_PRIORITY):
        return Unreadable(where, f"its priority is {_show(priority)}, not 0, 1 or 2")
    if not (due is None or (isinstance(due, int) and due >= 0)):
        return Unreadable(where, f"its time is {_show(due)}, not seconds since 1970")
    return StoredJob(function, unique, number, due or 0, workload)


def split_key(where: str, key: bytes, functions: Collection[bytes]) -> Names | Unreadable:
    """The function and unique in ``FUNCTION-UNIQUE``, both of which may contain hyphens.

    ``functions``: those that the operator named. Without one that fits, a key is split only where
    it has a single hyphen, or a UUID after the first.
    """
    named = [each for each in functions if key.startswith(each + b"-")]
    if len(named) > 1:
        fitting = " and ".join(sorted(map(_show, named)))
        return Unreadable(where, f"functions= names {fitting}, which both fit; name one of them")
    if named:
        return named[0], key[len(named[0]) + 1 :]
    function, _, unique = key.partition(b"-")
    if b"-" in unique and not UUID.fullmatch(unique):
        reason = "the key does not tell where its function ends; add functions=NAME,..."
        return Unreadable(where, reason)
    return function, unique


def no_keys(prefix: bytes, others: int) -> SourceError:
    """None of the keys begins with the prefix: an empty queue leaves nothing behind."""
    keys = "1 key" if others == 1 else f"{others} keys"
    return SourceError(
        f"found 0 jobs: no key begins with '{name_bytes(prefix)}' ({keys} with another "
        "beginning): the queue is empty, or it is elsewhere"
    )


def refuse_open(who: str) -> SourceError:
    """A running C gearmand seems to use the queue: it would do the jobs that are imported."""
    return SourceError(
        f"{who}: stop the C server first, or add in_use=ignore if that is something else"
    )


def name_row(function: object, unique: object) -> str:
    """A row of a table, for operators."""
    return f"function {_show(function)}, unique {_show(unique)}"


def name_bytes(value: bytes) -> str:
    """A name or key, for operators."""
    return printable(shorten(value.decode(errors="backslashreplace"), 100), keep="")


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return f"'{name_bytes(value)}'"
    return "NULL" if value is None else repr(value)
