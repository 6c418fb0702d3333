"""A listing for people: columns with headings, numbers aligned to the right.

Headings are bold unless NO_COLOR is set or the terminal is dumb.
"""

import os
from collections.abc import Sequence
from typing import Any

from gearman_py.admin.answers import FunctionStats, PauseRow
from gearman_py.cli.failed_jobs import format_time
from gearman_py.printable import printable

MAX_COLUMN_WIDTH = 40  # characters; a longer cell shifts only its own row

_HEADINGS = {
    "status": ("FUNCTION", "JOBS", "RUNNING", "WORKERS"),
    "priority-status": ("FUNCTION", "HIGH", "NORMAL", "LOW", "WORKERS"),
    "stats": (
        *("FUNCTION", "JOBS", "RUNNING", "WORKERS", "WANTED", "ACCEPTED", "COMPLETED"),
        *("FAILED", "REQUEUED", "WAIT", "LIMIT"),
    ),
    "workers": ("FD", "ADDRESS", "ID", "FUNCTIONS"),
    "show-jobs": ("HANDLE", "RETRIES", "IGNORED", "BACKGROUND"),
    "show-unique-jobs": ("UNIQUE",),
    "pauses": ("NAME", "SINCE", "BY"),
    "schedules": (
        *("NAME", "CRON", "ZONE", "FUNCTION", "NEXT", "LAST", "PAUSED", "MISSED", "OVERLAP"),
        *("PRIORITY", "UNIQUE", "HANDLE", "WORKLOAD"),
    ),
    "failed": (
        *("HANDLE", "FUNCTION", "UNIQUE", "PRIORITY", "ATTEMPTS", "BYTES", "FAILED"),
        *("WORKER", "ID", "REASON"),
    ),
    "list-jobs": (
        *("HANDLE", "STATE", "FUNCTION", "UNIQUE", "PRIORITY", "ATTEMPTS", "BYTES", "SECONDS"),
        *("DUE", "WORKER", "ID"),
    ),
    "results": ("HANDLE", "FUNCTION", "BYTES", "COMPLETED"),
}


def format_table(listing: str, rows: Sequence[Any], servers: Sequence[str] = ()) -> str:
    """The rows of a listing under its headings; ``servers``: where each is from."""
    headings = _HEADINGS[listing] + (("SERVER",) if servers else ())
    texts = [[_format_cell(value) for value in _row_values(row)] for row in rows]
    for cells, server in zip(texts, servers, strict=bool(servers)):
        cells.append(server)
    columns = zip(headings, *texts, strict=True)
    widths = [min(MAX_COLUMN_WIDTH, max(map(len, column))) for column in columns]
    numeric = [isinstance(value, int) for value in _row_values(rows[0])] if rows else ()
    right = [*numeric, *[False] * (len(headings) - len(numeric))]

    def format_line(cells: Sequence[str]) -> str:
        padded = zip(cells, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in padded
        ).rstrip()

    return "\n".join([_make_bold(format_line(headings)), *map(format_line, texts)])


def _row_values(row: Any) -> Sequence[Any]:
    if isinstance(row, FunctionStats):
        counts = row.jobs, row.running, row.workers, row.workers_wanted
        ended = row.completed, row.failed
        wait = _mean(row.wait_seconds, row.started)
        return row.name, *counts, row.accepted, *ended, row.requeued, wait, _format_limit(row)
    if isinstance(row, PauseRow):
        return row.name, format_time(row.since), row.by
    return (row,) if isinstance(row, str) else tuple(row)[:-1]  # the last one is its server


def _format_limit(row: FunctionStats) -> str:
    running = f"{row.max_running} run" if row.max_running else ""
    rate = f"{row.max_started} in {row.period_seconds:g} s" if row.max_started else ""
    per_key = f"{row.max_per_key} per key" if row.max_per_key else ""
    if row.server_paused:
        return "server paused"
    if row.paused and row.paused_since:
        return f"paused since {format_time(row.paused_since)} by {row.paused_by}"
    if row.paused:
        return "paused"
    return ", ".join(filter(None, (running, rate, per_key))) or "-"


def _mean(seconds: float, count: int) -> str:
    return f"{seconds / count:.3f} s" if count else "-"


def _format_cell(value: Any) -> str:
    """A value in one line, without what would look like another cell or row."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return printable(" ".join(value) if isinstance(value, tuple) else str(value), keep="")


def _make_bold(text: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[m"
