"""Live jobs by number, in a quarter of the memory that a dict would take for millions of them.

Numbers are given out one after the other, so jobs are kept in pages of SIZE numbers; a page
goes when its last job does. A few jobs that outlive all others keep a page each.
"""

from collections.abc import Iterator
from typing import Any

from gearman_py.broker.state import BrokerJob

BITS = 6
SIZE = 1 << BITS
MASK = SIZE - 1


class JobTable:
    """The jobs there are. Its length is their count."""

    def __init__(self) -> None:
        # A page: SIZE jobs or None, and behind them how many jobs it has.
        self._pages: dict[int, list[Any]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[BrokerJob]:
        """Every job, in the order of the numbers within what came at one time.

        Jobs may come and go meanwhile: those that come are left out.
        """
        for number in list(self._pages):
            for job in self._pages.get(number, ())[:SIZE]:
                if job is not None:
                    yield job

    def get(self, number: int) -> BrokerJob | None:
        """The job of this number."""
        page = self._pages.get(number >> BITS)
        job: BrokerJob | None = page[number & MASK] if page is not None else None
        return job

    def add(self, job: BrokerJob) -> None:
        """Enter a job under its number; raises ValueError when another job has it."""
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

    def remove(self, job: BrokerJob) -> None:
        """Strike a job out."""
        number = job.number
        page = self._pages[number >> BITS]
        page[number & MASK] = None
        page[SIZE] -= 1
        self._count -= 1
        if not page[SIZE]:
            del self._pages[number >> BITS]
