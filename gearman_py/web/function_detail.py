"""What the job servers say about one function when its page is opened: percentiles, reasons, the
newest failures and the submitters.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gearman_py.admin.function_detail import FunctionDetail
from gearman_py.admin.submitter_row import SubmitterRow, join_submitters
from gearman_py.errors import GearmanError
from gearman_py.web.collector import Collector
from gearman_py.web.failed_pages import ask_failed
from gearman_py.web.fleet import ServerLook
from gearman_py.web.formats import raw_name
from gearman_py.web.job_pages import FoundJob
from gearman_py.web.users import DashboardUser

SHARES = (0.5, 0.9, 0.95, 0.99)
FAILURES = {
    "fail": "failed, as their workers said",
    "exception": "failed by an exception",
    "attempts": "failed after too many attempts",
    "disconnected": "requeued: the worker disconnected",
    "timeout": "requeued: out of time",
    "unregistered": "requeued: the worker gave the function up",
    "postponed": "requeued: the worker gave the job back, to be tried again later",
}
PRIORITIES = ("high", "normal", "low")
NEWEST = 5  # failed jobs


class Times(NamedTuple):
    """How long jobs waited or ran: the seconds that each of SHARES took at most."""

    name: str
    total: int
    percentiles: list[float | None]


class Detail(NamedTuple):
    """A function over all job servers, since the start of each."""

    waiting: dict[str, int]
    times: list[Times]
    reasons: list[tuple[str, int]]


async def ask_detail(collector: Collector, name: str) -> Detail | None:
    """Ask all job servers that count; None: none of them says anything."""

    async def ask(server: ServerLook) -> FunctionDetail | None:
        try:
            return await collector.client_of(server).describe_function(raw_name(name))
        except GearmanError:  # it does not know the function, or the next look says why
            return None

    servers = [each for each in collector.fleet.answering if each.counts]
    answers = await asyncio.gather(*map(ask, servers))
    found = [answer for answer in answers if answer is not None]
    if not found:
        return None
    counts = Counter[str]()
    for each in found:
        counts.update(each.counts)
    bounds = found[0].bounds
    alike = [each for each in found if each.bounds == bounds]  # a version of ours may have others
    waits, runs = (_add_up([getattr(each, kind) for each in alike]) for kind in ("waits", "runs"))
    return Detail(
        {priority: counts[priority] for priority in PRIORITIES},
        [_times("Wait", bounds, waits), _times("Run time", bounds, runs)],
        [(text, counts[reason]) for reason, text in FAILURES.items() if counts[reason]],
    )


async def ask_newest_failures(
    collector: Collector, user: DashboardUser, name: str
) -> tuple[list[FoundJob], list[str]]:
    """The failed jobs of a function that failed last, and why servers do not say theirs."""
    servers = [
        each
        for each in collector.fleet.answering
        if name in each.functions and each.functions[name].kept_failed
    ]
    problems = list[str]()
    found = await ask_failed(collector, user, servers, name, limit=NEWEST, problems=problems)
    found.sort(key=lambda job: -job.row.failed)
    return found[:NEWEST], problems


async def ask_submitters(collector: Collector, name: str) -> list[SubmitterRow] | None:
    """Who submits jobs of a function, most submissions first; None: no server says it."""

    async def ask(server: ServerLook) -> list[SubmitterRow] | None:
        try:
            return await collector.client_of(server).submitters(raw_name(name))
        except GearmanError:  # an earlier version of ours, or the next look says why
            return None

    servers = [each for each in collector.fleet.answering if each.counts]
    answers = [each for each in await asyncio.gather(*map(ask, servers)) if each is not None]
    if not answers:
        return None
    found: dict[tuple[str, str], SubmitterRow] = {}
    for row in (row for rows in answers for row in rows):
        known = found.get((row.address, row.client_id))
        found[row.address, row.client_id] = join_submitters(known, row) if known else row
    return sorted(found.values(), key=lambda row: (-row.submissions, row.address, row.client_id))


def _add_up(rows: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _times(name: str, bounds: Sequence[float], counts: Sequence[int]) -> Times:
    return Times(name, counts[-1], [find_percentile(share, bounds, counts) for share in SHARES])


def find_percentile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The seconds that this share took at most, as if evenly spread within each bucket.

    None: nothing was counted. Beyond the last bound it is that bound, as in PromQL.
    """
    if not counts[-1]:
        return None
    rank = share * counts[-1]
    lower, below = 0.0, 0
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return bounds[-1]
