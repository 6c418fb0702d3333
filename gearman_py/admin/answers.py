"""What a job server says of itself, and how its lines are read. No I/O."""

from typing import NamedTuple


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
    def parse(cls, line: str) -> "WorkerInfo":
        """Read a line of ``workers``."""
        head, _, functions = line.rpartition(" :")
        fd, address, client_id = head.split(" ", 2)
        return cls(int(fd), address, client_id, tuple(functions.split()))


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
