"""Sorting while peers are served."""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import repeat
from typing import Any, TypeVar

T = TypeVar("T")

RUN_LENGTH = 500  # items that are sorted at a time


def sort_in_slices(items: Iterable[T], key: Callable[[T], Any]) -> Iterator[T | None]:
    """As many times None as there are items, then the items in order.

    No step takes long, however many items there are.
    """
    unsorted = list(items)
    runs = []
    for start in range(0, len(unsorted), RUN_LENGTH):
        run = sorted(unsorted[start : start + RUN_LENGTH], key=key)
        runs.append(run)
        yield from repeat(None, len(run))
    yield from merge(*runs, key=key)
