"""Live jobs by what they coalesce on."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from gearman_py.broker.state import BrokerJob, Function, Key

# Bytes per key of a dict that has just grown, and of a dict that is too small to copy.
_KEY_SIZE = 100
_SMALL = 2**18


def is_sparse(table: Mapping[Any, Any]) -> bool:
    """Whether a dict has grown so much larger than its keys need that it is worth copying."""
    return sys.getsizeof(table) > max(_SMALL, 4 * _KEY_SIZE * len(table))


class Uniques(dict[Key, BrokerJob | dict[Function, BrokerJob]]):
    """The live jobs by key, at most one per function.

    Nearly always a key has one job, which then needs no dict; ``shared`` are the others.
    """

    __slots__ = ("shared",)

    def __init__(self) -> None:
        super().__init__()
        self.shared: set[Key] = set()

    def find(self, key: Key, function: Function) -> BrokerJob | None:
        """The job of this function with this key."""
        found = self.get(key)
        if isinstance(found, dict):
            return found.get(function)
        return found if found is not None and found.function is function else None

    def find_first(self, key: Key) -> BrokerJob | None:
        """The first job with this key, of any function."""
        found = self.get(key)
        return next(iter(found.values())) if isinstance(found, dict) else found

    def add(self, key: Key, job: BrokerJob) -> None:
        """Add a job whose function has none with this key."""
        found = self.setdefault(key, job)
        if isinstance(found, dict):
            found[job.function] = job
        elif found is not job:
            self.share(key, (found, job))

    def share(self, key: Key, jobs: Iterable[BrokerJob]) -> None:
        """Have these jobs alone share a key, in this order."""
        self[key] = {job.function: job for job in jobs}
        self.shared.add(key)

    def replace(self, key: Key, old: BrokerJob, new: BrokerJob) -> None:
        """Have a job take the place of another of its function, if that has this key."""
        found = self.get(key)
        if found is old:
            self[key] = new
        elif isinstance(found, dict) and found.get(old.function) is old:
            found[old.function] = new

    def discard(self, key: Key, job: BrokerJob) -> None:
        """Remove a job, if it is the one with this key."""
        found = self.get(key)
        if found is job:
            del self[key]
        elif isinstance(found, dict) and found.get(job.function) is job:
            del found[job.function]
            if len(found) == 1:
                (self[key],) = found.values()
                self.shared.discard(key)

    def shrink(self) -> None:
        """Free the memory of removed keys, which a dict keeps."""
        if is_sparse(self):
            kept = dict(self)
            self.clear()
            self.update(kept)
