# Written by tests/twins.py from aio.py; change that one.
"""``AdminClient``: administers job servers, for asyncio."""

from datetime import datetime
from functools import partial
from time import monotonic

from gearman_py.admin.answers import (
    FunctionDetail,
    FunctionStats,
    FunctionStatus,
    JobInfo,
    JobRow,
    PriorityStatus,
    WorkerInfo,
    explain_refused_shutdown,
    parse_facts,
    parse_rows,
)
from gearman_py.admin.command_words import (
    as_seconds,
    check_word,
    encode_name,
    jobs_command,
    limit_commands,
    max_queue_command,
)
from gearman_py.admin.sync_link import ServerLink
from gearman_py.admin.sync_several import ask_all, change_all, change_jobs, find_owner, join_all
from gearman_py.errors import AdminError


class AdminClient(ServerLink):
    """Administers job servers (``servers``, as in Client). Several are shown as one.

    Listings have the rows of all that answer; ``passed_over`` lists those that did not, and why.
    The last field of a row, ``server``, is where it is from. What concerns a function or the whole
    server is changed at all servers; an error is raised unless each has done it, or does not know
    the function. What concerns a job is done where the job is. ``version``, ``pid``, ``verbose``,
    ``facts``, ``ping``, ``value`` and ``listing`` ask ``server``, the first that can be reached;
    ``members`` are clients of one server each. ``shutdown`` stops only one.

    Connections are opened on first use. Threads may share it: their commands take turns. Timeouts
    are in seconds. All methods raise ServerUnavailable, ConnectionLost, AdminError (the server
    refused), or JobTimeout after ``timeout``.
    """

    @ask_all
    def status(self) -> list[FunctionStatus]:
        """All functions that the servers know; each has a row for each server."""
        return self._ask_listing("status", FunctionStatus.from_line)

    @ask_all
    def priority_status(self) -> list[PriorityStatus]:
        """All functions, with their waiting jobs by priority."""
        return self._ask_listing("prioritystatus", PriorityStatus.from_line)

    @ask_all
    def stats(self) -> list[FunctionStats]:
        """As AdminClient.stats()."""
        return self._ask_listing("stats", FunctionStats.from_line)

    @ask_all
    def workers(self) -> list[WorkerInfo]:
        """All connections of the server, including clients and this one.

        It asks for the functions first, to recognize names that contain spaces.
        """
        known = [row.name for row in self.status()]
        return self._ask_listing("workers", partial(WorkerInfo.from_line, known=known))

    @ask_all
    def jobs(self) -> list[JobInfo]:
        """All jobs of the server."""
        return self._ask_listing("show jobs", JobInfo.from_line)

    @ask_all
    def find_jobs(
        self,
        state: str = "waiting",
        *,
        function: str = "",
        unique: str = "",
        reason: str = "",
        offset: int = 0,
        limit: int = 100,
    ) -> list[JobRow]:
        """A page of the jobs that are "waiting", "running", "scheduled" or "failed", at most 1,000.

        Of several servers, each sends its page.

        Waiting jobs come in the order of their turn, running ones longest first, scheduled ones
        by when they are due, failed ones latest first. ``reason``: only failed jobs whose reason
        contains this. Not known to C gearmand (AdminError).
        """
        command = jobs_command(
            f"jobs {state} limit={limit}",
            function=function,
            unique=unique,
            reason=reason,
            offset=offset,
        )
        return self._ask_listing(command, JobRow.from_line)

    @find_owner
    def find_job(self, handle: str, *, size: int = 4096) -> JobRow:
        """A job with the first ``size`` bytes of its workload. Raises AdminError if it is unknown.

        Where gearmand runs with --admin-only it answers only on its admin socket.
        """
        command = f"job {check_word(handle)} {size}"
        (row,) = self._ask_listing(command, JobRow.from_line)
        return row

    @join_all
    def describe_function(self, name: str) -> FunctionDetail:
        """Waiting jobs by priority, ends by reason, waits and runs in buckets.

        Raises AdminError if the function is unknown, and from C gearmand.
        """
        command = f"function {encode_name(name)}"
        (row,) = parse_rows(self.server, command, self.listing(command), FunctionDetail.from_line)
        return row

    def facts(self) -> dict[str, str]:
        """What the server says about itself (docs/protocol.md); not known to C gearmand."""
        return parse_facts(self.listing("server"))

    @ask_all
    def unique_jobs(self) -> list[str]:
        """The uniques of all jobs of the server."""
        return self.listing("show unique jobs")

    def version(self) -> str:
        """The version of the server, such as "1.1.20"."""
        return self.value("version")

    def pid(self) -> int:
        """The process id of the server."""
        return int(self.value("getpid"))

    def verbose(self) -> str:
        """The log level of the server: ERROR, INFO, ..."""
        return self.value("verbose")

    @change_all
    def create_function(self, name: str) -> None:
        """Create a function before any worker registers it."""
        self.value(f"create function {check_word(name)}")

    @change_all
    def drop_function(self, name: str) -> None:
        """Drop a function. Raises AdminError while it has workers or jobs."""
        self.value(f"drop function {check_word(name)}")

    @change_all
    def max_queue(
        self,
        function: str,
        limit: int | None = None,
        *,
        high: int | None = None,
        normal: int | None = None,
        low: int | None = None,
    ) -> None:
        """Refuse more jobs of a function (QueueFull) while it has this many.

        ``high``, ``normal`` and ``low`` limit jobs of that priority, ``limit`` the priorities
        without a limit of their own; None means no limit. As in C gearmand, all jobs of the
        function count, whatever their priority, including those that run.
        """
        command = max_queue_command(function, limit, high, normal, low)
        self.create_function(function)  # the C server limits only known functions
        self.value(command)

    @change_all
    def pause(self, function: str) -> None:
        """Give out no job of a function until ``resume``; jobs are accepted and queued.

        Like ``resume``, ``limit`` and ``purge``, it needs a job server of gearman_py.
        """
        self.value(f"pause {encode_name(function)}")

    @change_all
    def resume(self, function: str) -> None:
        """End a pause. Raises AdminError for a function that the server does not know."""
        self.value(f"resume {encode_name(function)}")

    @change_all
    def pause_server(self) -> None:
        """Give out no job of any function until ``resume_server``; jobs are accepted and queued."""
        self.value("server pause")

    @change_all
    def resume_server(self) -> None:
        """End a pause of the server; functions that are paused stay so."""
        self.value("server resume")

    @change_all
    def limit(self, function: str, *, running: int | None = None, rate: str | None = None) -> None:
        """Limit which jobs of a function are given out, over all workers.

        At most ``running`` of them run at a time, and no more are started in any period than
        ``rate`` says, such as "100/s", "20/m" or "10/30m"; 0 or "0" ends a limit, None leaves it
        as it is. Jobs that run already go on.
        """
        for command in limit_commands(function, running, rate):
            self.value(command)

    @change_jobs
    def purge(self, function: str) -> list[str]:
        """Cancel all jobs of a function that do not run; return their handles.

        Clients that wait for one are told that it failed.
        """
        return self.listing(f"purge {encode_name(function)}")

    @find_owner
    def prioritize(self, handle: str, priority: str) -> None:
        """Give a job that waits another priority: "high", "normal" or "low"."""
        self.value(f"prioritize job {check_word(handle)} {check_word(priority)}")

    @find_owner
    def reschedule(self, handle: str, at: datetime | float) -> None:
        """Do not run a background job that waits before ``at`` (a number: seconds since 1970)."""
        self.value(f"reschedule job {check_word(handle)} {as_seconds(at)}")

    @find_owner
    def run_now(self, handle: str) -> None:
        """Have a job that waits run as the next one of its function and priority."""
        self.value(f"reschedule job {check_word(handle)} now")

    @find_owner
    def retry(self, handle: str) -> None:
        """Queue a failed background job again, under its handle.

        Raises AdminError if no such job is kept, or a job with its unique is queued. Like
        ``discard``, ``retry_all`` and ``discard_all``, it needs a job server of gearman_py.
        """
        self.value(f"retry job {check_word(handle)}")

    @find_owner
    def discard(self, handle: str) -> None:
        """Forget a failed background job. Raises AdminError if no such job is kept."""
        self.value(f"discard job {check_word(handle)}")

    @change_jobs
    def retry_all(self, *, function: str = "", unique: str = "", reason: str = "") -> list[str]:
        """Queue all failed jobs again that match; return their handles.

        ``reason``: those whose reason contains this. What the server cannot queue stays failed.
        """
        return self._change_failed("retry jobs", function, unique, reason)

    @change_jobs
    def discard_all(self, *, function: str = "", unique: str = "", reason: str = "") -> list[str]:
        """Forget all failed jobs that match; return their handles."""
        return self._change_failed("discard jobs", function, unique, reason)

    def ping(self) -> float:
        """The round-trip time in seconds."""
        start = monotonic()
        self.value("version")
        return monotonic() - start

    @find_owner
    def cancel(self, handle: str) -> None:
        """Remove a waiting job from its queue."""
        self.value(f"cancel job {check_word(handle)}")

    def shutdown(self, *, graceful: bool = False) -> None:
        """Stop the server, after its jobs if ``graceful``.

        Raises AdminError unless this is its admin socket.
        """
        if self.members:
            raise ValueError(f"shutdown: expected one job server, not {len(self.members)}")
        try:
            self.value("shutdown graceful" if graceful else "shutdown")
        except AdminError as error:
            raise explain_refused_shutdown(self.server, error) from error

    def _change_failed(self, command: str, function: str, unique: str, reason: str) -> list[str]:
        """Send a command, which acts on some jobs at a time, until it finds no more.

        What fails from now on, such as a job that is retried, is left out.
        """
        latest = self.find_jobs("failed", function=function, unique=unique, reason=reason, limit=1)
        found: list[str] = []
        if latest:
            until = f"{latest[0].failed + 0.001:.3f}"
            filters = {"function": function, "unique": unique, "reason": reason, "until": until}
            command = jobs_command(command, **filters)
            while some := self.listing(command):
                found += some
        return found
