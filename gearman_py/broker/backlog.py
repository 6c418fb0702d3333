"""The jobs of queues that another queue has taken the place of, which it looks at little by little.

To take them over costs the same for ten jobs and for a million.
"""

from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Part = deque[Job] | OrderedDict[Job, Any]


class Backlog(Generic[Job]):
    """The jobs of queues, which are its ``parts``, one after the other; used as a deque.

    As in other queues, some may have left it without being removed, or may be in it twice.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Part[Job]] = ()) -> None:
        self.parts = [part for part in parts if part]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Job]:
        return chain.from_iterable(self.parts)

    def __reversed__(self) -> Iterator[Job]:
        return chain.from_iterable(map(reversed, reversed(self.parts)))

    def __getitem__(self, place: int) -> Job:
        """The first job, or the last."""
        return next(reversed(self.parts[-1]) if place else iter(self.parts[0]))

    def append(self, job: Job) -> None:
        """Put a job at the end."""
        self._last_part().append(job)

    def extend(self, jobs: Iterable[Job]) -> None:
        """Put jobs at the end."""
        for job in jobs:
            self.append(job)

    def _last_part(self) -> deque[Job]:
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, deque):
            last = deque()
            self.parts.append(last)
        return last

    def popleft(self) -> Job:
        """Remove the first job. Raises IndexError if there is none."""
        part = self.parts[0]
        job = part.popleft() if isinstance(part, deque) else part.popitem(last=False)[0]
        if not part:
            del self.parts[0]
        return job

    def pop(self) -> Job:
        """Remove the last job. Raises IndexError if there is none."""
        return self._pop_of(len(self.parts) - 1)

    def _pop_of(self, place: int) -> Job:
        part = self.parts[place]
        job = part.pop() if isinstance(part, deque) else part.popitem()[0]
        if not part:
            del self.parts[place]
        return job

    def rotate(self) -> None:
        """Put the last job at the beginning."""
        self.parts.insert(0, deque([self.pop()]))

    def clear(self) -> None:
        """Remove all jobs."""
        self.parts.clear()

    def merge(self) -> Generator[None, None, deque[Job]]:
        """Make one deque of the parts, and return it; yields after each job that was moved."""
        last = self._last_part()
        while len(self.parts) > 1:
            last.appendleft(self._pop_of(len(self.parts) - 2))
            yield
            last = self._last_part()
        return last
