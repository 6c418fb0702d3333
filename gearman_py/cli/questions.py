"""What gearadmin can be asked: its commands, in the order in which they run."""

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from gearman_py.admin.client import AdminClient
from gearman_py.admin.command_words import as_seconds
from gearman_py.cli import failed_jobs, move_jobs, queued_jobs, schedules

Ask = Callable[[AdminClient], "str | int | Ping"]


class Ping(NamedTuple):
    """A server that answered, and the round-trip time in seconds."""

    server: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.server} answers in {1000 * self.seconds:.1f} ms"


class ValueQuestion(NamedTuple):
    """A question that is answered with one line."""

    help: str
    ask: Ask


class ListingQuestion(NamedTuple):
    """A question that is answered with a listing: the command, and how its rows are parsed."""

    help: str
    command: str
    rows: Callable[[AdminClient], Sequence[Any]]


class SteeringAction(NamedTuple):
    """A change to what the arguments name; prints what ``act`` returns, or ``OK``.

    ``to_servers``: the argument is a list of job servers. ``filtered``: --reason restricts it.
    ``alone``: it is sent to one job server only. ``repeated``: the last argument may be given
    several times.
    """

    help: str
    words: tuple[str, ...]
    act: Callable[..., str | failed_jobs.ChangedJobs | None]
    to_servers: bool = False
    filtered: bool = False
    alone: bool = False
    repeated: bool = False

    @property
    def of_job(self) -> bool:
        """Whether the first argument names a job or a schedule, which not all servers have."""
        return self.words[:1] in (("HANDLE",), ("SCHEDULE",))


class JobReport(NamedTuple):
    """A question about a job, or about an ``optional`` function.

    ``read`` returns rows, or what is known of one, or bytes that are written as they are.
    """

    help: str
    read: Callable[[AdminClient, Namespace], Sequence[Any] | dict[str, Any] | bytes]
    optional: bool = False

    @property
    def of_job(self) -> bool:
        """Whether it is about one job."""
        return not self.optional


def _ping_server(client: AdminClient) -> Ping:
    client.ping()  # connects first
    return Ping(str(client.server), round(client.ping(), 6))


def _set_max_queue(client: AdminClient, function: str, jobs: str) -> None:
    if not jobs.isascii() or not jobs.isdigit():
        raise ValueError(f"--max-queue: {jobs!r} is not a number of jobs")
    client.max_queue(function, int(jobs) or None)


LIMIT_FORMS = {
    "running": r"\d+",
    "rate": r"0|\d+/\d*[smhd]",
    "per-key": r"\d+",
    "separator": r".+",
}


def _limit(client: AdminClient, function: str, *limits: str) -> None:
    values: dict[str, Any] = {}
    for limit in limits:
        what, _, value = limit.partition("=")
        if what.replace("-", "_") in values:
            raise ValueError(f"--limit {function}: {what}= is given twice")
        if what not in LIMIT_FORMS or not re.fullmatch(LIMIT_FORMS[what], value, re.ASCII):
            raise ValueError(
                f"--limit: {limit!r} is not a limit; expected running=N, rate=N/PERIOD such as "
                "100/s, or per-key=N, and with it perhaps separator=TEXT"
            )
        values[what.replace("-", "_")] = int(value) if LIMIT_FORMS[what] == r"\d+" else value
    if not values.get("per_key") and "separator" in values:
        raise ValueError("--limit: separator=TEXT goes with per-key=N")
    if not values:
        raise ValueError(f"--limit {function}: expected a limit, such as running=4")
    client.limit(function, **values)


def _reschedule(client: AdminClient, handle: str, time: str) -> None:
    try:
        seconds = re.fullmatch(r"[\d.]+", time)
        at = float(time) if seconds else datetime.fromisoformat(time).timestamp()
        as_seconds(at)
    except (ValueError, OverflowError):
        raise ValueError(
            f"--reschedule: {time!r} is not a time after 1970; expected one such as "
            "2030-01-31T18:00Z, or seconds since 1970"
        ) from None
    client.reschedule(handle, at)


def _read_result(client: AdminClient, options: Namespace) -> bytes:
    return client.result(options.result)


QUESTIONS: dict[str, ValueQuestion | ListingQuestion | SteeringAction | JobReport] = {
    "ping": ValueQuestion("round-trip time", _ping_server),
    "getpid": ValueQuestion("process id of the server", AdminClient.pid),
    "create-function": SteeringAction(
        "create a function before its workers register",
        ("FUNCTION",),
        AdminClient.create_function,
    ),
    "max-queue": SteeringAction(
        "refuse jobs while there are N; 0: no limit",
        ("FUNCTION", "N"),
        _set_max_queue,
    ),
    "drop-function": SteeringAction(
        "drop a function without workers and jobs", ("FUNCTION",), AdminClient.drop_function
    ),
    "show-jobs": ListingQuestion(
        "jobs: handle, retries, ignored, background", "show jobs", AdminClient.jobs
    ),
    "show-unique-jobs": ListingQuestion(
        "uniques of all jobs", "show unique jobs", AdminClient.unique_jobs
    ),
    "cancel-job": SteeringAction(
        "remove a waiting job from its queue", ("HANDLE",), AdminClient.cancel
    ),
    "pause": SteeringAction("give out no job of a function (*)", ("FUNCTION",), AdminClient.pause),
    "resume": SteeringAction("end a pause (*)", ("FUNCTION",), AdminClient.resume),
    "pauses": ListingQuestion(
        "functions that are paused: name, since when (seconds since 1970), by whom (*)",
        "pauses",
        AdminClient.pauses,
    ),
    "pause-server": SteeringAction(
        "give out no job of any function (*)", (), AdminClient.pause_server
    ),
    "resume-server": SteeringAction("end a pause of the server (*)", (), AdminClient.resume_server),
    "limit": SteeringAction(
        "running=4: run at most 4 jobs at a time, over all workers; rate=100/s, rate=10/30m: "
        "start no more in a period; per-key=2: run at most 2 whose uniques are the same up to a "
        "colon, or up to separator=TEXT; running=0, rate=0, per-key=0: no limit (*)",
        ("FUNCTION", "LIMIT"),
        _limit,
        repeated=True,
    ),
    "purge": SteeringAction(
        "cancel all jobs of a function that do not run; asks first (*)",
        ("FUNCTION",),
        failed_jobs.purge,
    ),
    "prioritize": SteeringAction(
        "give a job that waits another priority: high, normal or low (*)",
        ("HANDLE", "PRIORITY"),
        AdminClient.prioritize,
    ),
    "reschedule": SteeringAction(
        "run a waiting background job no earlier than TIME, such as 2030-01-31T18:00Z, or seconds "
        "since 1970 (*)",
        ("HANDLE", "TIME"),
        _reschedule,
    ),
    "run-now": SteeringAction(
        "run a job that waits as the next one of its function and priority (*)",
        ("HANDLE",),
        AdminClient.run_now,
    ),
    "retry": SteeringAction("queue a failed job again (*)", ("HANDLE",), AdminClient.retry),
    "retry-all": SteeringAction(
        "queue all failed jobs of a function again (*)",
        ("FUNCTION",),
        failed_jobs.retry_all,
        filtered=True,
    ),
    "discard": SteeringAction("forget a failed job (*)", ("HANDLE",), AdminClient.discard),
    "discard-all": SteeringAction(
        "forget all failed jobs of a function; asks first (*)",
        ("FUNCTION",),
        failed_jobs.discard_all,
        filtered=True,
    ),
    "schedule": SteeringAction(
        "add or replace a schedule: a background job is submitted when a crontab expression says "
        "so. FACT: cron='0 5 * * *', function=NAME, and perhaps zone=Europe/Berlin, workload=TEXT, "
        "unique=KEY, priority=high|normal|low, missed=once|all|none, overlap=allow|skip, "
        "owner=TEXT (*)",
        ("SCHEDULE", "FACT"),
        schedules.set_schedule,
        repeated=True,
    ),
    "pause-schedule": SteeringAction(
        "submit no job of a schedule (*)", ("SCHEDULE",), AdminClient.pause_schedule
    ),
    "resume-schedule": SteeringAction(
        "end a pause of a schedule (*)", ("SCHEDULE",), AdminClient.resume_schedule
    ),
    "run-schedule": SteeringAction(
        "submit the job of a schedule now (*)", ("SCHEDULE",), AdminClient.run_schedule
    ),
    "delete-schedule": SteeringAction(
        "forget a schedule (*)", ("SCHEDULE",), AdminClient.delete_schedule
    ),
    "schedules": JobReport(
        "schedules, of a function or of all (*)", schedules.read_schedules, True
    ),
    "list-jobs": JobReport(
        "jobs that run, wait or are to run later, of a function or of all (*)",
        queued_jobs.read_queued,
        True,
    ),
    "failed": JobReport(
        "failed background jobs, of a function or of all (*)", failed_jobs.read_failed, True
    ),
    "results": JobReport(
        "background jobs whose results are kept, of a function or of all (*)",
        failed_jobs.read_results,
        True,
    ),
    "show-job": JobReport("a job, with the beginning of its workload (*)", failed_jobs.read_job),
    "result": JobReport("the result of a background job, if it is kept (*)", _read_result),
    "server-verbose": ValueQuestion(
        "log level of the server", lambda client: client.value("verbose")
    ),
    "server-version": ValueQuestion(
        "version of the server", lambda client: client.value("version")
    ),
    "workers": ListingQuestion(
        "connections: fd, address, id : functions", "workers", AdminClient.workers
    ),
    "priority-status": ListingQuestion(
        "functions: name, high, normal, low, workers",
        "prioritystatus",
        AdminClient.priority_status,
    ),
    "status": ListingQuestion(
        "functions: name, jobs, running, workers", "status", AdminClient.status
    ),
    "stats": ListingQuestion(
        "functions: what is queued and what happened (*)",
        "stats",
        AdminClient.stats,
    ),
    "move-jobs": SteeringAction(
        "move the background jobs that wait to other job servers (admin socket only)",
        ("SERVERS",),
        move_jobs.move_jobs,
        to_servers=True,
        alone=True,
    ),
    "retire": SteeringAction(
        "the same, wait for those that run, and stop the server (admin socket only)",
        ("SERVERS",),
        move_jobs.retire,
        to_servers=True,
        alone=True,
    ),
    "drain": SteeringAction(
        "stop the server after its jobs (admin socket only)",
        (),
        lambda client: client.shutdown(graceful=True),
        alone=True,
    ),
    "shutdown": SteeringAction(
        "stop the server at once (admin socket only)", (), AdminClient.shutdown, alone=True
    ),
}
