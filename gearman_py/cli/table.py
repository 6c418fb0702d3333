"""A server's listing for people: columns with headings, numbers to the right.

Headings are bold, unless NO_COLOR is set or the terminal is dumb.
"""

import os
from collections.abc import Sequence
from typing import Any

from gearman_py.printable import printable

_WIDEST = 40  # characters: what is longer moves its own row only

_HEADINGS = {
    "status": ("FUNCTION", "JOBS", "RUNNING", "WORKERS"),
    "priority-status": ("FUNCTION", "HIGH", "NORMAL", "LOW", "WORKERS"),
    "workers": ("FD", "ADDRESS", "ID", "FUNCTIONS"),
    "show-jobs": ("HANDLE", "RETRIES", "IGNORED", "BACKGROUND"),
    "show-unique-jobs": ("UNIQUE",),
}


def table(listing: str, rows: Sequence[Any]) -> str:
    """The rows of a listing, under its headings."""
    headings = _HEADINGS[listing]
    texts = [[_cell(value) for value in _values(row)] for row in rows]
    columns = zip(headings, *texts, strict=True)
    widths = [min(_WIDEST, max(map(len, column))) for column in columns]
    numeric = [isinstance(value, int) for value in _values(rows[0])] if rows else ()
    right = [*numeric, *[False] * (len(headings) - len(numeric))]

    def line(cells: Sequence[str]) -> str:
        padded = zip(cells, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in padded
        ).rstrip()

    return "\n".join([_bold(line(headings)), *map(line, texts)])


def _values(row: Any) -> Sequence[Any]:
    return (row,) if isinstance(row, str) else tuple(row)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(" ".join(value) if isinstance(value, tuple) else str(value))


def _bold(text: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[m"
