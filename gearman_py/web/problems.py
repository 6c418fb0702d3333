"""What is wrong, in words: the rules of monitoring/alerts.yml that the collector can judge."""

from collections.abc import Iterator
from typing import NamedTuple

from gearman_py.admin.answers import FunctionStats
from gearman_py.web.fleet import RECENT, Fleet, FunctionRow
from gearman_py.web.formats import (
    format_count,
    format_moment,
    format_name,
    format_seconds,
    format_share,
)

NO_WORKER_AFTER = 60.0  # seconds that a job may wait for a worker to come
OLD = 3600.0  # seconds: as in GearmanJobsWaitLong
STUCK_AFTER = 600.0  # seconds: as in GearmanWorkersTakeNoJobs
MANY_FAIL = 0.1  # of at least FEW jobs: as in GearmanJobsFail
FEW = 10
MEMORY_NEAR_LIMIT = 0.8  # as in GearmanMemoryNearLimit
CRITICAL, WARNING = "critical", "warning"


class FleetProblem(NamedTuple):
    """Something that is wrong: in words, and where to read on.

    ``alert`` is its name in monitoring/alerts.yml, whose section in docs/alerts.md says what to do.
    """

    severity: str
    subject: str
    text: str
    alert: str
    function: str | None = None


def find_problems(fleet: Fleet, history_problem: str = "") -> list[FleetProblem]:
    """All problems, critical ones first, those of most jobs first among equals."""
    found = [*_of_servers(fleet)]
    rows = sorted(fleet.functions.values(), key=lambda row: -row.stats.waiting)
    found += [problem for row in rows for problem in _of_function(row)]
    if history_problem:
        text = f"The history cannot be written: {history_problem}."
        found.append(FleetProblem(WARNING, "gearman-web", text, ""))
    return sorted(found, key=lambda problem: problem.severity != CRITICAL)


def _of_servers(fleet: Fleet) -> Iterator[FleetProblem]:
    if not fleet.rounds:
        return
    for server in fleet.servers:
        if not server.answers:
            lasting = format_seconds(fleet.when - server.since)
            text = f"The job server has not answered for {lasting}: {server.why}."
            yield FleetProblem(CRITICAL, server.address, text, "GearmanServerDown")
            continue
        if why := server.facts.get("refuses"):
            text = f"The job server takes no new jobs: {why}."
            yield FleetProblem(CRITICAL, server.address, text, "GearmanRefusesJobs")
        elif server.memory_share > MEMORY_NEAR_LIMIT:
            text = f"It uses {format_share(server.memory_share)} of its limit of memory."
            yield FleetProblem(WARNING, server.address, text, "GearmanMemoryNearLimit")


def _since_by(stats: FunctionStats) -> str:
    at = format_moment(stats.paused_since, "%Y-%m-%d %H:%M")
    return f" since {at} by {format_name(stats.paused_by)}" if stats.paused_since else ""


def _of_function(row: FunctionRow) -> Iterator[FleetProblem]:
    stats = row.stats
    waiting = f"{format_count(stats.waiting, 'job')} {'waits' if stats.waiting == 1 else 'wait'}"
    oldest = format_seconds(stats.oldest_seconds)
    if stats.waiting and stats.server_paused:
        text = f"A job server is paused; {waiting}."
        yield FleetProblem(WARNING, row.name, text, "", row.name)
    elif stats.waiting and stats.paused:
        yield FleetProblem(
            WARNING, row.name, f"It is paused{_since_by(stats)}; {waiting}.", "", row.name
        )
    elif stats.waiting and not stats.workers:
        # C gearmand does not say how long jobs have waited.
        if stats.oldest_seconds >= NO_WORKER_AFTER or not stats.oldest_seconds:
            since = f", the oldest for {oldest}" if stats.oldest_seconds else ""
            text = f"{waiting} and no worker does it{since}."
            yield FleetProblem(CRITICAL, row.name, text, "GearmanFunctionWithoutWorkers", row.name)
    elif stats.waiting and not stats.running and stats.oldest_seconds >= STUCK_AFTER:
        text = (
            f"{waiting}, the oldest for {oldest}, and its {format_count(stats.workers, 'worker')} "
        )
        text += f"{'takes' if stats.workers == 1 else 'take'} none."
        yield FleetProblem(CRITICAL, row.name, text, "GearmanWorkersTakeNoJobs", row.name)
    elif stats.oldest_seconds >= OLD:
        text = f"The oldest job has waited for {oldest}; {waiting}."
        yield FleetProblem(WARNING, row.name, text, "GearmanJobsWaitLong", row.name)
    if row.recent.ended >= FEW and row.recent.failed_share > MANY_FAIL:
        text = (
            f"{format_share(row.recent.failed_share)} of the jobs failed within the last "
            f"{RECENT} minutes: {row.recent.failed:,} of {row.recent.ended:,}."
        )
        yield FleetProblem(WARNING, row.name, text, "GearmanJobsFail", row.name)
