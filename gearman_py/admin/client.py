# Written by tests/twins.py from aio.py; change that one.
"""``AdminClient``: administers job servers, for asyncio."""

from functools import partial
from time import monotonic

from gearman_py.admin.answers import (
    FunctionStats,
    FunctionStatus,
    JobInfo,
    JobRow,
    PriorityStatus,
    WorkerInfo,
    explain_refused_shutdown,
    parse_facts,
    parse_row,
)
from gearman_py.admin.command_words import (
    check_word,
    encode_name,
    jobs_command,
    max_queue_command,
)
from gearman_py.admin.function_detail import FunctionDetail
from gearman_py.admin.submitter_row import SubmitterRow
from gearman_py.admin.sync_several import ask_all, change_all, find_owner, join_all
from gearman_py.admin.sync_steering import Steering
from gearman_py.errors import AdminError


class AdminClient(Steering):
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
        """A page of the jobs that are "waiting", "running", "scheduled", "failed" or "complete".

        At most ``limit`` jobs after the first ``offset``. One listing has each job that is there
        all the while exactly once, however long it is (half a million rows, in the timeout);
        between two, jobs leave, and those behind them move up. Of several servers, each sends its
        page.

        Waiting jobs come in the order of their turn, running ones longest first, scheduled ones
        by when they are due, failed ones and those that are complete latest first; of these only
        the ones whose results are kept are known. ``reason``: only failed jobs whose reason
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
        row = parse_row(self.server, command, self.listing(command), JobRow.from_line)
        return row._replace(server=str(self.server))

    @join_all
    def describe_function(self, name: str) -> FunctionDetail:
        """Waiting jobs by priority, ends by reason, waits and runs in buckets.

        Raises AdminError if the function is unknown, and from C gearmand.
        """
        command = f"function {encode_name(name)}"
        lines = self.listing(command)
        return parse_row(self.server, command, lines, FunctionDetail.from_line)

    @ask_all
    def submitters(self, function: str) -> list[SubmitterRow]:
        """Who submits jobs of a function, most submissions first, since the server's start.

        Of those without a connection, it is the last 32. Not known to C gearmand (AdminError).
        """
        command = f"submitters {encode_name(function)}"
        return self._ask_listing(command, SubmitterRow.from_line)

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
