"""Long listings in pages: what a query asks for, sorted, filtered and cut."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

ROWS = 100  # of a page


class Query(NamedTuple):
    """What the address asks for. Anything that makes no sense is as if it were not there."""

    text: str = ""
    sort: str = ""
    reverse: bool = False
    page: int = 1
    path: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, path: str, values: Mapping[str, str], *others: str) -> "Query":
        """From the parameters of a request; ``others`` are kept in links as they are."""
        page = values.get("page", "1")
        return cls(
            values.get("q", "").strip()[:200],
            values.get("sort", ""),
            values.get("order") == "reverse",
            max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
            path,
            tuple((name, values[name]) for name in others if values.get(name)),
        )

    def link(self, **changes: Any) -> str:
        """The address of the same listing with something changed."""
        other = self._replace(**changes)
        words = {
            **dict(other.others),
            "q": other.text,
            "sort": other.sort,
            "order": "reverse" if other.reverse else "",
            "page": str(other.page) if other.page > 1 else "",
        }
        given = urlencode({key: value for key, value in words.items() if value})
        return f"{other.path}?{given}" if given else other.path


class Page(NamedTuple):
    """A part of a listing: rows ``first`` to ``last`` of ``total``, and where the others are."""

    rows: Sequence[Any]
    first: int
    last: int
    total: int
    before: str
    after: str


def cut_page(query: Query, rows: Sequence[Any], total: int | None = None) -> Page:
    """The page that is asked for. ``total``: ``rows`` are those of the page alone."""
    number = len(rows) if total is None else total
    page = min(query.page, max(1, -(-number // ROWS)))
    start = (page - 1) * ROWS
    shown = rows[start : start + ROWS] if total is None else rows
    return Page(
        shown,
        start + 1 if shown else 0,
        start + len(shown),
        number,
        query.link(page=page - 1) if page > 1 else "",
        query.link(page=page + 1) if start + len(shown) < number else "",
    )


class Column(NamedTuple):
    """A column of a table; ``value`` sorts by it. Numbers are sorted largest first."""

    key: str
    heading: str
    title: str
    value: Callable[[Any], Any] | None = None
    numeric: bool = True
    right: bool | None = None  # where its cells are, if not as numbers or text are

    @property
    def is_right(self) -> bool:
        """Whether its cells are aligned to the right."""
        return self.numeric if self.right is None else self.right


def sort_rows(
    query: Query, columns: Sequence[Column], rows: list[Any], usual: str
) -> tuple[list[Any], str]:
    """The rows in the order that is asked for, and the key of the column that decides."""
    known = {column.key: column for column in columns if column.value}
    column = known.get(query.sort) or known[usual]
    assert column.value is not None  # noqa: S101  for mypy: known has no others
    rows.sort(key=column.value, reverse=column.numeric != query.reverse)
    return rows, column.key
