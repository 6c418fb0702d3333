"""Objects that belong to one process: a forked child cannot share connections or locks."""

import os
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet


class Closable(Protocol):
    """What a process can have."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class PerProcess(Generic[T]):
    """One ``T`` for each process that uses it, in ``here``.

    ``drop`` is called in a forked child with the parent's; the child makes its own.
    """

    def __init__(self, make: Callable[[], T], drop: Callable[[T], object]) -> None:
        self._make, self._drop = make, drop
        self.here = make()
        _instances.add(self)

    def close(self) -> None:
        """Close the object of this process; it may be used again."""
        self.here.close()

    def reset_after_fork(self) -> None:
        """Leave the parent's object alone in a forked child."""
        parents, self.here = self.here, self._make()
        self._drop(parents)


_instances: WeakSet[PerProcess[Any]] = WeakSet()


def _after_fork() -> None:
    for one in _instances:
        one.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
