"""Live jobs by number, in a quarter of the memory of a dict.

Numbers are consecutive, so jobs are kept in pages of SIZE numbers. A page is freed with its last
job; the few jobs that outlive all others keep a page each.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from gearman_py.broker.state import BrokerJob

BITS = 6
SIZE = 1 << BITS
MASK = SIZE - 1


class JobTable:
    """The live jobs. Its length is their number."""

    __slots__ = ("_count", "_pages")

    def __init__(self) -> None:
        # A page has SIZE entries, jobs or None, and then the number of its jobs.
        self._pages: dict[int, list[Any]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[BrokerJob]:
        """All jobs, mostly in the order of their numbers.

        Jobs may be added and removed meanwhile; added ones are left out.
        """
        for number in list(self._pages):
            for job in self._pages.get(number, ())[:SIZE]:
                if job is not None:
                    yield job

    @property
    def pages(self) -> Iterable[int]:
        """The numbers of the pages, in the order in which jobs are listed."""
        return self._pages

    def clear(self) -> None:
        """Forget all jobs, a page at a time: other threads may run meanwhile."""
        while self._pages:
            self._pages.popitem()
        self._count = 0

    def order_pages(self, pages: Iterable[int]) -> None:
        """List jobs in the order of these pages, which are all there are."""
        self._pages = {number: self._pages[number] for number in pages}

    def get(self, number: int) -> BrokerJob | None:
        """The job with this number."""
        page = self._pages.get(number >> BITS)
        job: BrokerJob | None = page[number & MASK] if page is not None else None
        return job

    def add(self, job: BrokerJob) -> None:
        """Add a job under its number. Raises ValueError if another job has it."""
        number = job.number
        place = number & MASK
        page = self._pages.get(number >> BITS)
        if page is None:
            page = self._pages[number >> BITS] = [None] * SIZE + [0]
        elif page[place] is not None:
            raise ValueError(f"two jobs have the number {number}")
        page[place] = job
        page[SIZE] += 1
        self._count += 1

    def replace(self, job: BrokerJob) -> None:
        """Have a job take the place of the one with its number."""
        self._pages[job.number >> BITS][job.number & MASK] = job

    def remove(self, job: BrokerJob) -> None:
        """Remove a job."""
        number = job.number
        page = self._pages[number >> BITS]
        page[number & MASK] = None
        page[SIZE] -= 1
        self._count -= 1
        if not page[SIZE]:
            del self._pages[number >> BITS]
