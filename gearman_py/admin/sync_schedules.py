# Written by tests/twins.py from aio_schedules.py; change that one.
"""The methods of ``AdminClient`` for schedules (docs/steering.md).

They need a job server of gearman_py. Of several servers, a schedule is at one; if more have one of
its name, all of these are changed.
"""

from typing import Literal

from gearman_py.admin.answers import is_unknown_command
from gearman_py.admin.command_words import encode_name, schedule_facts
from gearman_py.admin.schedule_row import ScheduleRow
from gearman_py.admin.sync_link import ServerLink
from gearman_py.admin.sync_several import (
    ask_all,
    change_owners,
    find_owner,
    first_able,
    is_unknown,
)
from gearman_py.errors import AdminError


class Scheduling(ServerLink):
    """Adds, changes and lists schedules."""

    def schedule(
        self,
        name: str,
        cron: str,
        function: str,
        workload: bytes = b"",
        *,
        zone: str = "UTC",
        unique: str = "",
        priority: Literal["high", "normal", "low"] = "normal",
        missed: Literal["once", "all", "none"] = "once",
        overlap: Literal["allow", "skip"] = "allow",
        owner: str = "",
    ) -> None:
        """Have the server submit a background job at the times that ``cron`` says in a time zone.

        It replaces the schedule with this name, if there is one; of several servers, the first that
        can gets a new one. ``missed``: which of the runs that
        were due while no server ran are made up. ``overlap="skip"`` leaves a run out while the job
        of the last one is queued or runs. ``owner`` is listed with it: a program that keeps
        schedules knows its own by that.
        """
        facts = {"function": function, "cron": cron, "zone": zone, "unique": unique}
        facts["owner"] = owner
        words = schedule_facts(name, workload, overlap, missed, priority, **facts)
        try:
            self._replace_schedule(f"schedule replace {words}")
        except AdminError as error:
            if not (is_unknown(error) or is_unknown_command(error)):
                raise
            self._add_schedule(f"schedule set {words}")

    @ask_all
    def schedules(self) -> list[ScheduleRow]:
        """All schedules, by name. Where gearmand runs with --admin-only, on its admin socket."""
        return self._ask_listing("schedules", ScheduleRow.from_line)

    def pause_schedule(self, name: str) -> None:
        """Submit no job of a schedule. Raises AdminError if the schedule is unknown."""
        self._change_schedules(f"schedule pause {encode_name(name)}")

    def resume_schedule(self, name: str) -> None:
        """End a pause; what was due meanwhile is not made up."""
        self._change_schedules(f"schedule resume {encode_name(name)}")

    def run_schedule(self, name: str) -> str:
        """Submit the job of a schedule now, at one server; return its handle."""
        return self._run_schedule(f"schedule run {encode_name(name)}")

    def delete_schedule(self, name: str) -> None:
        """Forget a schedule; its jobs stay."""
        self._change_schedules(f"schedule delete {encode_name(name)}")

    @change_owners
    def _replace_schedule(self, command: str) -> None:
        self._send_facts(command)

    @first_able
    def _add_schedule(self, command: str) -> str:
        return self._send_facts(command)

    def _send_facts(self, command: str) -> str:
        try:
            # C gearmand closes the connection of who sends a command of more than a few words.
            self.value("schedule")
        except AdminError as error:  # any server refuses this
            if is_unknown_command(error):
                raise
        return self.value(command)

    @change_owners
    def _change_schedules(self, command: str) -> None:
        self.value(command)

    @find_owner
    def _run_schedule(self, command: str) -> str:
        return self.value(command)
