"""Objects that belong to one process: a forked child cannot share connections or locks."""

import os
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet


class Closable(Protocol):
    """What a process can have."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class PerProcess(Generic[T]):
    """One ``T`` for each process that uses it.

    ``drop`` is called in a forked child with the parent's; the child makes its own.
    """

    def __init__(self, make: Callable[[], T], drop: Callable[[T], object]) -> None:
        self._make, self._drop = make, drop
        self._made: T | None = None
        self._lock = Lock()
        _instances.add(self)

    def here(self) -> T:
        """The object of this process; made on first use."""
        if (made := self._made) is not None:
            return made
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Close the object of this process, if there is one; it may be used again."""
        if self._made is not None:
            self._made.close()

    def reset_after_fork(self) -> None:
        """Leave the parent's object alone in a forked child."""
        self._lock = Lock()
        made, self._made = self._made, None
        if made is not None:
            self._drop(made)


_instances: WeakSet[PerProcess[Any]] = WeakSet()


def _after_fork() -> None:
    for one in _instances:
        one.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
