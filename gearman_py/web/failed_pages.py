"""The page of failed background jobs, and the actions on them."""

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.answers import JobRow
from gearman_py.errors import GearmanError
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.formats import format_count, raw_name
from gearman_py.web.job_pages import FoundJob
from gearman_py.web.listing import ROWS, Query, cut_page
from gearman_py.web.login import Render
from gearman_py.web.operating import Act, Operator, explain_failure
from gearman_py.web.users import DashboardUser

MERGED = 1000  # of the latest jobs are shown if they are at several job servers
FUNCTIONS = 12  # have a link of their own, those with most failed jobs
ACTIONS = {"retry": "queued again", "discard": "discarded"}


class FailedPages:
    """Failed jobs in pages; they are queued again or discarded, one or all of a function."""

    def __init__(self, collector: Collector, render: Render, operator: Operator) -> None:
        self._collector = collector
        self._render = render
        self._operator = operator

    async def failed(self, request: Request) -> Response:
        function = request.query_params.get("function", "")
        query = Query.of("/failed", request.query_params, "function")
        query = query._replace(text="", sort="", reverse=False)
        counts = self._count_by_function()
        kept = counts.get(function, 0) if function else sum(counts.values())
        servers = self._servers
        total = min(kept, MERGED) if len(servers) > 1 else kept
        query = query._replace(page=min(query.page, max(1, -(-total // ROWS))))
        problems: list[str] = []
        found = await self._read_page(request.state.user, servers, function, query.page, problems)
        return self._render(
            request,
            "failed.html",
            query=query,
            function=function,
            functions=sorted(counts, key=lambda name: (-counts[name], name))[:FUNCTIONS],
            counts=counts,
            kept=kept,
            page=cut_page(query, found, max(total, len(found))),
            failures=problems,
        )

    async def confirm(self, request: Request) -> Response:
        """The page that tells how many jobs an action concerns, before it is done."""
        values = request.query_params
        action, function, handle = (
            values.get(name, "") for name in ("action", "function", "handle")
        )
        if action not in ACTIONS or not (function or handle):
            raise HTTPException(404, "This page does not exist.")
        user: DashboardUser = request.state.user
        self._operator.check_role(request, action)
        await self._collector.look()
        count, until, problems = 1, 0.0, list[str]()
        if not handle:
            count = self._count_by_function().get(function, 0)
            answering = _find_answering(self._servers, problems)
            latest = await ask_failed(
                self._collector, user, answering, function, limit=1, problems=problems
            )
            until = max((job.row.failed for job in latest), default=0.0)
        return self._render(
            request,
            "confirm.html",
            action=action,
            function=function,
            handle=handle,
            server=values.get("server", ""),
            count=count,
            until=f"{until + 0.001:.3f}" if until else "",
            failures=problems,
        )

    async def change(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "This page does not exist.")
        fields = await self._operator.read_form(request, action)
        function, handle = fields.get("function", ""), fields.get("handle", "")
        if handle:
            servers = self._operator.find_server(fields)
            act = _change_one(action, handle)
        else:
            servers = self._servers
            act = _change_all(action, function, _parse_until(fields.get("until", "")))
        if not servers or not (function or handle):
            raise HTTPException(404, "No job server has such failed jobs.")
        outcomes = await self._operator.carry_out(request, action, fields, servers, act)
        shown = fields.get("shown", function if not handle else "")
        return await self._operator.lead_back(request, action, outcomes, "/failed", function=shown)

    def _count_by_function(self) -> dict[str, int]:
        rows = self._collector.fleet.functions.values()
        return {row.name: row.stats.kept_failed for row in rows if row.stats.kept_failed}

    @property
    def _servers(self) -> list[ServerLook]:
        """All of ours: what failed since they were asked last is not counted yet."""
        servers = self._collector.fleet.servers
        return [server for server in servers if server.counts or not server.answers]

    async def _read_page(
        self,
        user: DashboardUser,
        servers: Sequence[ServerLook],
        function: str,
        number: int,
        problems: list[str],
    ) -> list[FoundJob]:
        """The jobs of a page, the latest first."""
        skipped = (number - 1) * ROWS
        answering = _find_answering(servers, problems)
        ask = partial(ask_failed, self._collector, user, answering, function, problems=problems)
        if len(servers) == 1:
            return await ask(offset=skipped)
        found = await ask(limit=skipped + ROWS)
        found.sort(key=lambda job: -job.row.failed)
        return found[skipped : skipped + ROWS]


def _find_answering(servers: Sequence[ServerLook], problems: list[str]) -> list[ServerLook]:
    """Those that answered last, as no page waits for the others; ``problems``: why they do not."""
    problems += [f"{each.address}: {each.why}" for each in servers if not each.answers]
    return [each for each in servers if each.answers]


async def ask_failed(
    collector: Collector,
    user: DashboardUser,
    servers: Sequence[ServerLook],
    function: str,
    *,
    offset: int = 0,
    limit: int = ROWS,
    problems: list[str],
) -> list[FoundJob]:
    """Failed jobs of each server, those that failed last first; ``problems``: who does not say."""

    async def ask(server: ServerLook) -> list[FoundJob]:
        client = collector.client_of(server, user)
        try:
            rows: list[JobRow] = await client.find_jobs(
                "failed", function=raw_name(function), offset=offset, limit=limit
            )
        except GearmanError as error:
            problems.append(f"{server.address}: {explain_failure(error)[0]}")
            return []
        return [FoundJob(server.address, row) for row in rows]

    parts = await asyncio.gather(*map(ask, servers))
    return [job for part in parts for job in part]


def _change_one(action: str, handle: str) -> Act:
    async def change(client: AsyncAdminClient) -> str:
        await (client.retry(handle) if action == "retry" else client.discard(handle))
        return ACTIONS[action]

    return change


def _change_all(action: str, function: str, until: float) -> Act:
    async def change(client: AsyncAdminClient) -> str:
        change_all = client.retry_all if action == "retry" else client.discard_all
        handles = await change_all(function=raw_name(function), until=until)
        return f"{format_count(len(handles), 'job')} {ACTIONS[action]}"

    return change


def _parse_until(text: str) -> float:
    """The moment of a confirmation. Raises HTTPException."""
    try:
        if (until := float(text)) > 0:
            return until
    except ValueError:
        pass
    raise HTTPException(400, "Confirm it on the page before.")
