"""Words and tables, as all commands of the toolkit write them."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import inf

GAP = "  "  # between columns
SIMILAR = 0.7  # as difflib counts: `workers` is meant to be `worker`, `berlin` is not


def format_count(number: int, noun: str) -> str:
    """As in `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_age(seconds: float) -> str:
    """As in `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    days, rest = divmod(round(seconds), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def format_pause(since: float, by: str) -> str:
    """As in ` since 2026-11-30 10:12 by ann`, by this machine's clock; "" if it is not known."""
    if not since:
        return ""
    at = datetime.fromtimestamp(since).astimezone().strftime("%Y-%m-%d %H:%M")
    return f" since {at} by {by}"


def format_table(rows: Sequence[Sequence[str]], *, widest: float = inf) -> Iterator[str]:
    """The lines of a table whose columns are as wide as their widest cell.

    A cell of more than ``widest`` characters does not count, and moves the rest of its row.
    """
    columns = (map(len, column) for column in zip(*rows, strict=True))
    widths = [max((size for size in sizes if size <= widest), default=0) for sizes in columns]
    for row in rows:
        yield GAP.join(map(str.ljust, row, widths)).rstrip()


def nearest_hint(name: str, known: Iterable[str], similar: float = SIMILAR) -> str:
    """What may be meant by a name that is not known; "" if nothing is near."""
    near = get_close_matches(name, known, 1, similar)
    return f"; did you mean {near[0]!r}?" if near else ""
