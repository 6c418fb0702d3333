"""What servers say about one function."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class FunctionDetail(NamedTuple):
    """What one server says about a function: the answer to ``function``.

    ``counts``: waiting jobs by priority ("high", "normal", "low"), failed ones by reason ("fail",
    "exception", "attempts"), requeued ones by reason ("disconnected", "timeout", "unregistered",
    "postponed").
    Each of ``waits`` and ``runs`` is how many took at most the seconds of ``bounds`` at its place;
    the last one is the number of all.
    """

    counts: dict[str, int]
    bounds: tuple[float, ...] = ()
    waits: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()

    @classmethod
    def from_line(cls, line: str) -> "FunctionDetail":
        """Parse the row of ``function``."""
        values = dict(pair.split("=", 1) for pair in line.split("\t")[1:])
        lists = {key: values.pop(key).split(",") for key in ("bounds", "waits", "runs")}
        return cls(
            {key: int(value) for key, value in values.items() if value.isdecimal()},
            tuple(map(float, lists["bounds"])),
            tuple(map(int, lists["waits"])),
            tuple(map(int, lists["runs"])),
        )


def join_details(details: Sequence[FunctionDetail]) -> FunctionDetail:
    """A function over several servers; of another version's buckets only the counts are taken."""
    first = details[0]
    alike = [each for each in details if each.bounds == first.bounds]
    return FunctionDetail(
        dict(sum((Counter(each.counts) for each in details), Counter())),
        first.bounds,
        tuple(map(sum, zip(*(each.waits for each in alike), strict=True))),
        tuple(map(sum, zip(*(each.runs for each in alike), strict=True))),
    )
