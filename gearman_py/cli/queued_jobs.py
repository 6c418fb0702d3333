"""gearadmin's listing of the jobs that run, wait, or are to run later."""

from argparse import Namespace
from typing import NamedTuple

from gearman_py.admin.client import AdminClient
from gearman_py.cli.failed_jobs import ALL, format_time


class QueuedRow(NamedTuple):
    """A job that has not ended. ``seconds``: for how long it runs or waits; ``due``: in UTC."""

    handle: str
    state: str
    function: str
    unique: str
    priority: str
    attempts: int
    bytes: int
    seconds: float | None
    due: str | None
    address: str
    client_id: str
    server: str


def read_queued(client: AdminClient, options: Namespace) -> list[QueuedRow]:
    """Those of a function, or all: first those that run longest, last those that are due last."""
    wanted = vars(options)["list-jobs"]
    rows = []
    for state in ("running", "waiting", "scheduled"):
        for job in client.find_jobs(state, function=wanted, limit=ALL):
            later = state == "scheduled"
            times = {
                "seconds": None if later else round(job.seconds, 1),
                "due": format_time(job.due) if later and job.due else None,
            }
            facts = job._asdict() | times
            rows.append(QueuedRow(*(facts[field] for field in QueuedRow._fields)))
    return rows
