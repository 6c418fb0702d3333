"""Moves the background jobs of a job server to others: see gearman_py.broker.moving."""

import sys
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gearman_py import (
    AdminError,
    Client,
    ConnectionLost,
    JobTimeout,
    ServerUnavailable,
    Submit,
)
from gearman_py.admin.answers import FunctionStats, is_unknown_command
from gearman_py.admin.client import AdminClient
from gearman_py.cli.failed_jobs import count_jobs
from gearman_py.client.arguments import Priority
from gearman_py.net.servers import ServerAddress
from gearman_py.printable import printable

MAX_PACKET = 2**32 - 1  # whatever the old server has accepted
SUBMIT_TIMEOUT = 60.0  # seconds for up to 500 jobs to be accepted
RETRY_INTERVAL = 0.2  # seconds between two checks whether jobs still run
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


class WaitingJob(NamedTuple):
    """A background job that can be moved: its handle, and how to submit it again."""

    handle: str
    submit: Submit

    @classmethod
    def from_line(cls, line: str) -> "WaitingJob":
        """Parse a line of ``move jobs``. Raises ValueError."""
        handle, priority, due, *data = line.split("\t")
        function, unique, reducer, workload = (b64decode(each) for each in data)
        submit = Submit(
            function=function.decode(errors="surrogateescape"),
            workload=workload,
            unique=unique,
            priority=PRIORITIES[int(priority)],
            background=True,
            at=int(due) or None,
            reducer=reducer.decode(errors="surrogateescape") or None,
        )
        return cls(handle, submit)


def move_jobs(admin: AdminClient, servers: Sequence[ServerAddress]) -> str:
    """Move all background jobs that wait; return what was moved.

    Each is forgotten only after a new server has accepted it: none is lost, and one may be on both
    if this is interrupted. Raises GearmanError, also if a function is paused here and not there.
    """
    left = _check_settings(admin, servers)
    return _format_moved(_move_waiting(admin, servers)) + left


def retire(admin: AdminClient, servers: Sequence[ServerAddress]) -> str:
    """Move all background jobs, wait for those that run, and stop the server.

    Jobs that it is sent meanwhile are moved too. Raises GearmanError, also if a function is paused
    here and not there.
    """
    left = _check_settings(admin, servers)
    moved: Counter[str] = Counter()
    told = 0
    while True:
        moved += _move_waiting(admin, servers)
        try:
            admin.value("shutdown moved")
        except AdminError as error:
            if "JOBS_LEFT" not in str(error):
                raise
        else:
            return f"{_format_moved(moved)}{left}; {admin.server} stops"
        running = sum(row.running for row in admin.status())
        if running and running != told:
            print(f"gearadmin: waiting for {running} running jobs", file=sys.stderr, flush=True)
            told = running
        time.sleep(RETRY_INTERVAL)


def _check_settings(admin: AdminClient, servers: Sequence[ServerAddress]) -> str:
    """Find what operators set on the old server alone. Returns what stays behind, in words.

    Jobs of a paused function are not to run because they were moved: that raises AdminError.
    """
    rows = admin.stats()
    here = {row.name: row for row in rows if row.paused or _describe_limits(row)}
    left: dict[str, str] = {}
    for server in servers if here else ():
        there = _ask_stats(server)
        if there is None:
            continue
        for name, row in here.items():
            other = there.get(name, FunctionStats(name))
            if row.paused and not other.paused and row.jobs:
                raise AdminError(
                    f"{printable(name)} is paused here and not at {server}, where its "
                    f"{count_jobs(row.jobs)} would run: pause it there, or resume it here"
                )
            if (limits := _describe_limits(row)) and limits != _describe_limits(other):
                left[name] = limits
    kept = {
        "that failed and were kept": sum(row.kept_failed for row in rows),
        "whose results are kept": sum(row.kept_results for row in rows),
    }
    told = [f"{count_jobs(number)} {what}: not moved" for what, number in kept.items() if number]
    if left:
        limits = ", ".join(f"{printable(name)} {limits}" for name, limits in left.items())
        told.insert(0, f"limits that are not set there: {limits}")
    return "".join(f"; {each}" for each in told)


def _ask_stats(server: ServerAddress) -> dict[str, FunctionStats] | None:
    """Of a server that jobs move to; none, as of C gearmand; None if it cannot be reached."""
    try:
        with AdminClient([server]) as admin:
            return {row.name: row for row in admin.stats()}
    except AdminError:
        return {}
    except (ServerUnavailable, ConnectionLost, JobTimeout):
        return None


def _describe_limits(row: FunctionStats) -> str:
    running = [f"running={row.max_running}"] if row.max_running else []
    rate = [f"rate={row.max_started}/{row.period_seconds:g}s"] if row.max_started else []
    per_key = [f"per-key={row.max_per_key}"] if row.max_per_key else []
    if row.max_per_key and row.key_separator != ":":
        per_key.append(f"separator={row.key_separator}")
    return " ".join(running + rate + per_key)


def _list_waiting(admin: AdminClient) -> list[WaitingJob]:
    try:
        return [WaitingJob.from_line(line) for line in admin.listing("move jobs")]
    except AdminError as error:
        if not is_unknown_command(error):
            raise
        raise AdminError(
            f"{admin.server}: jobs are moved only through the admin socket of a server of "
            "gearman_py, which gearmand --admin-listen unix:PATH opens"
        ) from None


def _move_waiting(admin: AdminClient, servers: Sequence[ServerAddress]) -> Counter[str]:
    """Move what waits now; return the number of jobs of each function."""
    moved: Counter[str] = Counter()
    with Client(servers, submit_timeout=SUBMIT_TIMEOUT, max_packet=MAX_PACKET) as client:
        while jobs := _list_waiting(admin):
            if not moved and client.status(jobs[0].handle).known:
                raise AdminError(f"{admin.server} is one of the servers that it moves jobs to")
            for job, there in zip(
                jobs, client.submit_many(each.submit for each in jobs), strict=True
            ):
                if there.error is not None:
                    raise AdminError(f"{job.handle} stays ({_format_moved(moved)}): {there.error}")
                admin.value(f"move job {job.handle}")
                moved[job.submit.function] += 1
    return moved


def _format_moved(moved: Counter[str]) -> str:
    total = moved.total()
    functions = ", ".join(f"{printable(name)} {moved[name]}" for name in sorted(moved))
    return f"moved {total} {'job' if total == 1 else 'jobs'}{f' ({functions})' * bool(moved)}"
