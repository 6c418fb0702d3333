# Written by tests/twins.py from aio_steering.py; change that one.
"""The methods of ``AdminClient`` that steer functions and jobs (docs/steering.md).

They need a job server of gearman_py: C gearmand answers UNKNOWN_COMMAND.
"""

from abc import abstractmethod
from datetime import datetime

from gearman_py.admin.answers import JobRow, PauseRow, parse_row
from gearman_py.admin.command_words import (
    as_seconds,
    check_word,
    encode_name,
    jobs_command,
    limit_command,
    read_result_part,
)
from gearman_py.admin.sync_schedules import Scheduling
from gearman_py.admin.sync_several import ask_all, change_all, change_jobs, find_owner


class Steering(Scheduling):
    """Pauses, limits and changes what a job server gives out, and runs failed jobs again."""

    @abstractmethod
    def find_jobs(
        self,
        state: str = "waiting",
        *,
        function: str = "",
        unique: str = "",
        reason: str = "",
        offset: int = 0,
        limit: int = 100,
    ) -> list[JobRow]: ...

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

    @ask_all
    def pauses(self) -> list[PauseRow]:
        """The functions that are paused, since when, and by whom."""
        return self._ask_listing("pauses", PauseRow.from_line)

    @change_all
    def pause_server(self) -> None:
        """Give out no job of any function until ``resume_server``; jobs are accepted and queued."""
        self.value("server pause")

    @change_all
    def resume_server(self) -> None:
        """End a pause of the server; functions that are paused stay so."""
        self.value("server resume")

    @change_all
    def limit(
        self,
        function: str,
        *,
        running: int | None = None,
        rate: str | None = None,
        per_key: int | None = None,
        separator: str = ":",
    ) -> None:
        """Limit which jobs of a function are given out, over all workers.

        At most ``running`` of them run at a time, and no more are started in any period than
        ``rate`` says, such as "100/s", "20/m" or "10/30m". At most ``per_key`` jobs with the same
        key run at a time, the key being the unique up to the first ``separator``. 0 or "0" ends a
        limit, None leaves it as it is. Jobs that run already go on. All are changed at once.
        """
        self.value(limit_command(function, running, rate, per_key, separator))

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
    def result(self, handle: str) -> bytes:
        """The result of a background job that is complete, if it is kept; does not wait.

        Raises AdminError if it is not kept, or the job waits, runs or has failed. Where gearmand
        runs with --admin-only, it answers only on its admin socket; ``Client.result`` does not.
        """
        parts: list[bytes] = []
        got, size = 0, 1
        while got < size:
            command = f"result {check_word(handle)} {got}"
            lines = self.listing(command)
            size, part = parse_row(self.server, command, lines, read_result_part)
            parts.append(part)
            got += len(part) or size
        return b"".join(parts)

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
    def retry_all(
        self, *, function: str = "", unique: str = "", reason: str = "", until: float = 0.0
    ) -> list[str]:
        """Queue all failed jobs again that match; return their handles.

        ``reason``: those whose reason contains this. ``until``: those that failed until then, in
        seconds since 1970 (now). What the server cannot queue stays failed.
        """
        return self._change_failed("retry jobs", function, unique, reason, until)

    @change_jobs
    def discard_all(
        self, *, function: str = "", unique: str = "", reason: str = "", until: float = 0.0
    ) -> list[str]:
        """Forget all failed jobs that match, as ``retry_all`` finds them; return their handles."""
        return self._change_failed("discard jobs", function, unique, reason, until)

    def _change_failed(
        self, command: str, function: str, unique: str, reason: str, until: float
    ) -> list[str]:
        """Send a command, which acts on some jobs at a time, until it finds no more.

        What fails from now on, such as a job that is retried, is left out.
        """
        latest = self.find_jobs("failed", function=function, unique=unique, reason=reason, limit=1)
        found: list[str] = []
        if latest:
            until = until or latest[0].failed
            facts = {"function": function, "unique": unique, "reason": reason}
            command = jobs_command(command, **facts, until=f"{until:.3f}")
            while some := self.listing(command):
                found += some
        return found
