"""What servers say about one function."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gearman_py.admin.numbers import parse_count, parse_seconds


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
        """Parse the row of ``function``. Raises ValueError, or KeyError for what is missing."""
        values = dict(pair.split("=", 1) for pair in line.split("\t")[1:])
        lists = {key: values.pop(key).split(",") for key in ("bounds", "waits", "runs")}
        detail = cls(
            {key: parse_count(value) for key, value in values.items() if value.isdecimal()},
            tuple(map(parse_seconds, lists["bounds"])),
            tuple(map(parse_count, lists["waits"])),
            tuple(map(parse_count, lists["runs"])),
        )
        for counts in (detail.waits, detail.runs):
            if len(counts) != len(detail.bounds) + 1 or sorted((0, *counts)) != [0, *counts]:
                raise ValueError(f"{counts} are not the counts of {len(detail.bounds)} buckets")
        return detail


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
