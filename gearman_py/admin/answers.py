"""What a job server is asked and says of itself, and how its lines are read. No I/O."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from gearman_py.errors import AdminError
from gearman_py.net.servers import Server

T = TypeVar("T")


class FunctionStatus(NamedTuple):
    """A function: its jobs, how many of them run, and the workers that can do them."""

    name: str
    total: int
    running: int
    workers: int

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return self.total - self.running

    @classmethod
    def parse(cls, line: str) -> "FunctionStatus":
        """Read a line of ``status``."""
        name, *counts = line.rsplit("\t", 3)
        total, running, workers = map(int, counts)
        return cls(name, total, running, workers)


class PriorityStatus(NamedTuple):
    """A function: its waiting jobs by priority, and the workers that can do them."""

    name: str
    high: int
    normal: int
    low: int
    workers: int

    @classmethod
    def parse(cls, line: str) -> "PriorityStatus":
        """Read a line of ``prioritystatus``."""
        name, *counts = line.rsplit("\t", 4)
        high, normal, low, workers = map(int, counts)
        return cls(name, high, normal, low, workers)


class WorkerInfo(NamedTuple):
    """A connection of the server; one without functions is a client's."""

    fd: int
    address: str
    client_id: str  # "-": it gave none
    functions: tuple[str, ...]

    @classmethod
    def parse(cls, line: str, known: Iterable[str] = ()) -> "WorkerInfo":
        """Read a line of ``workers``; ``known`` are the functions of the server.

        A line separates names by spaces and does not quote them. A name with a space is one
        name if it is known; where such names overlap, the longest counts.
        """
        names = frozenset(known)
        spaced = sorted((name for name in names if " " in name), key=len, reverse=True)
        head, _, tail = line.rpartition(" :")
        functions = tuple(tail.split())
        for mark in re.finditer(" :", line):  # an id or a name may hold one too
            found = tuple(_split_names(line[mark.end() + 1 :], spaced))
            if names.issuperset(found):
                head, functions = line[: mark.start()], found
                break
        fd, address, client_id = head.split(" ", 2)
        return cls(int(fd), address, client_id, functions)


class JobInfo(NamedTuple):
    """A job: its handle, how often it was given out again, and how the server keeps it."""

    handle: str
    retries: int
    ignored: bool
    background: bool

    @classmethod
    def parse(cls, line: str) -> "JobInfo":
        """Read a line of ``show jobs``."""
        handle, *facts = line.rsplit("\t", 3)
        retries, ignored, background = map(int, facts)
        return cls(handle, retries, bool(ignored), bool(background))


def _split_names(words: str, spaced: list[str]) -> Iterator[str]:
    while words:
        whole = next((name for name in spaced if f"{words} ".startswith(f"{name} ")), None)
        name = words.partition(" ")[0] if whole is None else whole
        if name:
            yield name
        words = words[len(name) + 1 :]


def value_of(server: Server, line: str) -> str:
    """A one-line answer without its OK. Raises AdminError for ERR."""
    if line.startswith("ERR "):
        raise AdminError(f"{server}: {line[4:].replace('+', ' ')}")
    return line.removeprefix("OK").strip()


def rows(server: Server, command: str, lines: list[str], parse: Callable[[str], T]) -> list[T]:
    """A listing, each line read by ``parse``. Raises AdminError for one that it cannot read."""
    found = []
    for line in lines:
        try:
            found.append(parse(line))
        except ValueError:
            raise AdminError(f"{server} answered {command!r} with {line!r}") from None
    return found


def word(name: str) -> str:
    """``name`` as a word of a command. Raises ValueError for what cannot be one."""
    if not name or any(c.isspace() or not c.isprintable() for c in name):
        raise ValueError(
            f"{name!r} cannot be sent: in the text protocol a space ends a name "
            "(jobs of such a function run; to limit or drop it, give it another name)"
        )
    return name


def max_queue(
    function: str, limit: int | None, high: int | None, normal: int | None, low: int | None
) -> str:
    """The command that limits a function's queue. Raises ValueError."""
    limits = [limit if own is None else own for own in (high, normal, low)]
    if any(one is not None and one < 1 for one in limits):
        raise ValueError(f"a limit of {limits} jobs would refuse them all: None is no limit")
    return f"maxqueue {word(function)} {' '.join(str(one or 0) for one in limits)}"
