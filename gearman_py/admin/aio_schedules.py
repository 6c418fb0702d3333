"""The methods of ``AsyncAdminClient`` for schedules (docs/steering.md).

They need a job server of gearman_py. Of several servers, a schedule is at one; if more have one of
its name, all of these are changed.
"""

from typing import Literal

from gearman_py.admin.aio_link import AsyncServerLink
from gearman_py.admin.aio_several import (
    ask_all,
    change_owners,
    find_owner,
    first_able,
    is_unknown,
)
from gearman_py.admin.answers import is_unknown_command
from gearman_py.admin.command_words import encode_name, schedule_facts
from gearman_py.admin.schedule_row import ScheduleRow
from gearman_py.errors import AdminError


class AsyncScheduling(AsyncServerLink):
    """Adds, changes and lists schedules."""

    async def schedule(
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
            await self._replace_schedule(f"schedule replace {words}")
        except AdminError as error:
            if not (is_unknown(error) or is_unknown_command(error)):
                raise
            await self._add_schedule(f"schedule set {words}")

    @ask_all
    async def schedules(self) -> list[ScheduleRow]:
        """All schedules, by name. Where gearmand runs with --admin-only, on its admin socket."""
        return await self._ask_listing("schedules", ScheduleRow.from_line)

    async def pause_schedule(self, name: str) -> None:
        """Submit no job of a schedule. Raises AdminError if the schedule is unknown."""
        await self._change_schedules(f"schedule pause {encode_name(name)}")

    async def resume_schedule(self, name: str) -> None:
        """End a pause; what was due meanwhile is not made up."""
        await self._change_schedules(f"schedule resume {encode_name(name)}")

    async def run_schedule(self, name: str) -> str:
        """Submit the job of a schedule now, at one server; return its handle."""
        return await self._run_schedule(f"schedule run {encode_name(name)}")

    async def delete_schedule(self, name: str) -> None:
        """Forget a schedule; its jobs stay."""
        await self._change_schedules(f"schedule delete {encode_name(name)}")

    @change_owners
    async def _replace_schedule(self, command: str) -> None:
        await self._send_facts(command)

    @first_able
    async def _add_schedule(self, command: str) -> str:
        return await self._send_facts(command)

    async def _send_facts(self, command: str) -> str:
        try:
            # C gearmand closes the connection of who sends a command of more than a few words.
            await self.value("schedule")
        except AdminError as error:  # any server refuses this
            if is_unknown_command(error):
                raise
        return await self.value(command)

    @change_owners
    async def _change_schedules(self, command: str) -> None:
        await self.value(command)

    @find_owner
    async def _run_schedule(self, command: str) -> str:
        return await self.value(command)
