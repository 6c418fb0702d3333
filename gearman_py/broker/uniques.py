"""Live jobs by what they coalesce on."""

import sys

from gearman_py.broker.state import BrokerJob, Function, Key

# Bytes of a dict for each of its keys, when it has just grown. One of more than four times that
# is worth copying, if it is not small.
_KEY_SIZE = 100
_SMALL = 2**18


class Uniques(dict[Key, BrokerJob | dict[Function, BrokerJob]]):
    """The live jobs of each key: at most one of each function.

    A key is nearly always that of 1 job, and then no dict is spent for it.
    """

    __slots__ = ()

    def find(self, key: Key, function: Function) -> BrokerJob | None:
        """The function's job of this key."""
        found = self.get(key)
        if isinstance(found, dict):
            return found.get(function)
        return found if found is not None and found.function is function else None

    def find_first(self, key: Key) -> BrokerJob | None:
        """The job of this key that came first, of whichever function."""
        found = self.get(key)
        return next(iter(found.values())) if isinstance(found, dict) else found

    def add(self, key: Key, job: BrokerJob) -> None:
        """Enter a job whose function has none of this key."""
        found = self.setdefault(key, job)
        if isinstance(found, dict):
            found[job.function] = job
        elif found is not job:
            self[key] = {found.function: found, job.function: job}

    def discard(self, key: Key, job: BrokerJob) -> None:
        """Remove a job, if it is the one of this key."""
        found = self.get(key)
        if found is job:
            del self[key]
        elif isinstance(found, dict) and found.get(job.function) is job:
            del found[job.function]
            if len(found) == 1:
                (self[key],) = found.values()

    def shrink(self) -> None:
        """Give back the memory of keys that are gone, which a dict does not do by itself."""
        if sys.getsizeof(self) > max(_SMALL, 4 * _KEY_SIZE * len(self)):
            kept = dict(self)
            self.clear()
            self.update(kept)
