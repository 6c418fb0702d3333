"""gearadmin's commands for background jobs that have ended: failed ones, and kept results."""

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from gearman_py.admin.answers import JobRow
from gearman_py.admin.client import AdminClient

ALL = 10**9  # rows: one listing has them as they were at one time


class FailedRow(NamedTuple):
    """A failed job, as it is listed. ``failed`` is a time in UTC."""

    handle: str
    function: str
    unique: str
    priority: str
    attempts: int
    bytes: int
    failed: str
    address: str
    client_id: str
    reason: str
    server: str


def format_time(seconds: float) -> str:
    """Seconds since 1970, as in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_failed(client: AdminClient, options: Namespace) -> list[FailedRow]:
    """All failed jobs of a function, or of all, those that failed last first."""
    return [make_row(FailedRow, job) for job in list_failed(client, options.failed, options.reason)]


class ResultRow(NamedTuple):
    """A job whose result is kept, as it is listed. ``completed`` is a time in UTC."""

    handle: str
    function: str
    bytes: int
    completed: str
    server: str


def read_results(client: AdminClient, options: Namespace) -> list[ResultRow]:
    """The kept results of a function, or of all, those that were complete last first."""
    jobs = client.find_jobs("complete", function=options.results, limit=ALL)
    return [make_row(ResultRow, job) for job in jobs]


Row = TypeVar("Row", FailedRow, ResultRow)


def make_row(kind: type[Row], job: JobRow) -> Row:
    """The row of a job, with times for people."""
    times = {key: format_time(getattr(job, key)) for key in ("failed", "completed")}
    facts = job._asdict() | times
    return kind(*(facts[field] for field in kind._fields))


def list_failed(client: AdminClient, function: str, reason: str) -> list[JobRow]:
    """The same as the server describes them."""
    return client.find_jobs("failed", function=function, reason=reason, limit=ALL)


def read_job(client: AdminClient, options: Namespace) -> dict[str, Any]:
    """What is known of a job, with the beginning of its workload."""
    job = client.find_job(vars(options)["show-job"])
    if job.state == "complete":  # its workload, unique and attempts are not kept
        facts = {"state": job.state, **make_row(ResultRow, job)._asdict()}
        return facts | {"result_bytes": facts.pop("bytes")}
    facts = job._asdict()
    for key in ("due", "failed", "completed"):
        facts[key] = format_time(facts[key]) if facts[key] else ""
    workload: bytes = facts.pop("workload")
    return facts | {"workload": workload.decode(errors="backslashreplace")}


class ChangedJobs(NamedTuple):
    """What was done to the jobs of a function, as JSON shows it; ``str`` for people."""

    done: str
    jobs: int
    handles: list[str]

    def __str__(self) -> str:
        return f"{count_jobs(self.jobs)} {self.done}"


def purge(client: AdminClient, function: str) -> ChangedJobs:
    """Cancel the jobs that do not run."""
    return _list_changed("purged", client.purge(function))


def retry_all(client: AdminClient, function: str, **filters: Any) -> ChangedJobs:
    """Queue failed jobs again."""
    return _list_changed("queued again", client.retry_all(function=function, **filters))


def discard_all(client: AdminClient, function: str, **filters: Any) -> ChangedJobs:
    """Forget failed jobs."""
    return _list_changed("discarded", client.discard_all(function=function, **filters))


def _list_changed(done: str, handles: list[str]) -> ChangedJobs:
    return ChangedJobs(done, len(handles), handles)


def count_jobs(number: int, kind: str = "") -> str:
    """A number of jobs, in words."""
    return f"{number} {kind}{'job' if number == 1 else 'jobs'}"
