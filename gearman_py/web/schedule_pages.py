"""The page of schedules, and the actions on them."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.schedule_row import ScheduleRow
from gearman_py.errors import GearmanError
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.listing import Query, cut_page
from gearman_py.web.login import Render
from gearman_py.web.operating import Act, Operator, explain_failure
from gearman_py.web.users import DashboardUser


class FoundSchedule(NamedTuple):
    """A schedule and the job server that has it."""

    server: str
    row: ScheduleRow


class SchedulePages:
    """Schedules of all job servers; they are paused, resumed and run at once."""

    def __init__(self, collector: Collector, render: Render, operator: Operator) -> None:
        self._collector = collector
        self._render = render
        self._operator = operator

    async def schedules(self, request: Request) -> Response:
        query = Query.of("/schedules", request.query_params)._replace(sort="", reverse=False)
        problems: list[str] = []
        found = await self._ask(request.state.user, problems)
        rows = [
            each for each in found if query.text in each.row.name + "\n" + each.row.listed_function
        ]
        rows.sort(key=lambda each: (each.row.paused, each.row.next, each.row.name))
        page = cut_page(query, rows)
        return self._render(request, "schedules.html", query=query, page=page, failures=problems)

    async def change(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "This page does not exist.")
        event = f"{action} schedule"
        fields = await self._operator.read_form(request, event)
        name = fields.get("schedule", "")
        servers = self._operator.find_server(fields)
        if not name:
            raise HTTPException(404, "The schedule is not named.")
        outcomes = await self._operator.carry_out(
            request, event, fields, servers, ACTIONS[action](name)
        )
        return await self._operator.lead_back(request, event, outcomes, "/schedules")

    async def _ask(self, user: DashboardUser, problems: list[str]) -> list[FoundSchedule]:
        async def ask(server: ServerLook) -> list[FoundSchedule]:
            if not server.answers:
                problems.append(f"{server.address}: {server.why}")
                return []
            try:
                rows = await self._collector.client_of(server, user).schedules()
            except GearmanError as error:
                problems.append(f"{server.address}: {explain_failure(error)[0]}")
                return []
            return [FoundSchedule(server.address, row) for row in rows]

        servers = self._collector.fleet.servers
        ours: Sequence[ServerLook] = [s for s in servers if s.counts or not s.answers]
        parts = await asyncio.gather(*map(ask, ours))
        return [schedule for part in parts for schedule in part]


def _pause(name: str) -> Act:
    async def pause(client: AsyncAdminClient) -> str:
        await client.pause_schedule(name)
        return f"{name} paused"

    return pause


def _resume(name: str) -> Act:
    async def resume(client: AsyncAdminClient) -> str:
        await client.resume_schedule(name)
        return f"{name} resumed"

    return resume


def _run(name: str) -> Act:
    async def run(client: AsyncAdminClient) -> str:
        return f"{name} submitted as job {await client.run_schedule(name)}"

    return run


ACTIONS = {"pause": _pause, "resume": _resume, "run": _run}
