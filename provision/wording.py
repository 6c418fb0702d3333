"""Words and tables, as all commands of the toolkit write them."""

from collections.abc import Iterator, Sequence

GAP = "  "  # between columns


def format_count(number: int, noun: str) -> str:
    """As in `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield GAP.join(map(str.ljust, row, widths)).rstrip()
