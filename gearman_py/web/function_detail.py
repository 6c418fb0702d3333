"""What the job servers say about one function when its page is opened: percentiles, reasons."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gearman_py.admin.function_detail import FunctionDetail
from gearman_py.errors import GearmanError
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.formats import raw_name

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
