"""The pages of jobs: they ask the job servers when they are opened, and only for what they show."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.answers import JobRow
from gearman_py.errors import AdminError, GearmanError
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.formats import raw_name
from gearman_py.web.listing import ROWS, Query, cut_page
from gearman_py.web.login import Render

STATES = ("waiting", "running", "scheduled")
MAX_RUNNING = 1000
WORKLOAD_SHOWN = 16 * 1024  # bytes


class FoundJob(NamedTuple):
    """A job and the job server that has it."""

    server: str
    row: JobRow


class JobPages:
    """Jobs in pages, found by handle or unique, and one job with its workload."""

    def __init__(self, collector: Collector, render: Render) -> None:
        self._collector = collector
        self._render = render

    async def jobs(self, request: Request) -> Response:
        values = request.query_params
        state = values.get("state", "waiting")
        state = state if state in STATES else "waiting"
        function = values.get("function", "")
        query = Query.of("/jobs", values, "state", "function")._replace(sort="", reverse=False)
        servers = [each for each in self._collector.fleet.answering if each.counts]
        counts = {
            each: sum(_count(server, each, function) for server in servers) for each in STATES
        }
        problems: list[str] = []
        if query.text:
            found = await self._search(request, servers, query.text, problems)
            page = cut_page(query, found)
        else:
            query = query._replace(page=min(query.page, max(1, -(-counts[state] // ROWS))))
            found = await self._read_page(servers, query, state, function, problems)
            page = cut_page(query, found, max(counts[state], len(found)))
        return self._render(
            request,
            "jobs.html",
            query=query,
            state=state,
            states={each: Query("", path="/jobs", others=_kept(each, function)) for each in STATES},
            counts=counts,
            function=function,
            page=page,
            unlisted=[each for each in self._collector.fleet.answering if not each.counts],
            failures=problems,
        )

    async def job(self, request: Request) -> Response:
        server = request.query_params.get("server", "")
        handle = request.query_params.get("handle", "")
        looks = {look.address: look for look in self._collector.fleet.servers}
        if server not in looks:
            raise HTTPException(404, f"Unknown job server {server!r}.")
        client = self._collector.client_of(looks[server], request.state.user)
        try:
            row = await client.find_job(handle, size=WORKLOAD_SHOWN)
        except ValueError:
            raise HTTPException(404, f"{handle!r} is not a handle.") from None
        except AdminError as error:
            if "PERMISSION" in str(error):
                raise HTTPException(
                    403,
                    "This job server shows jobs only to operators, on its admin socket "
                    "(--admin-only).",
                ) from None
            text = f"{server} has no job {handle}. It has ended, or was never there."
            raise HTTPException(404, text) from None
        except GearmanError as error:
            raise HTTPException(502, str(error)) from None
        return self._render(
            request, "job.html", server=server, row=row, workload=show_workload(row.workload)
        )

    async def _read_page(
        self,
        servers: Sequence[ServerLook],
        query: Query,
        state: str,
        function: str,
        problems: list[str],
    ) -> list[FoundJob]:
        """The jobs of a page: those of one job server after those of another."""
        skipped, found = (query.page - 1) * ROWS, list[FoundJob]()
        for server in servers:
            count = _count(server, state, function)
            if skipped >= count:
                skipped -= count
                continue
            client = self._collector.client_of(server)
            try:
                rows = await client.find_jobs(
                    state,
                    function=raw_name(function),
                    offset=skipped,
                    limit=ROWS - len(found),
                )
            except GearmanError as error:
                problems.append(f"{server.address}: {error}")
                continue
            found += [FoundJob(server.address, row) for row in rows]
            skipped = 0
            if len(found) >= ROWS:
                break
        return found

    async def _search(
        self, request: Request, servers: Sequence[ServerLook], text: str, problems: list[str]
    ) -> list[FoundJob]:
        """The jobs with this handle or this unique."""

        async def ask(server: ServerLook) -> list[FoundJob]:
            client = self._collector.client_of(server, request.state.user)
            try:
                rows = [
                    row for state in STATES for row in await client.find_jobs(state, unique=text)
                ]
                rows += await _with_handle(client, text)
            except GearmanError as error:
                problems.append(f"{server.address}: {error}")
                return []
            each_once = {row.handle: row for row in rows}.values()
            return [FoundJob(server.address, row) for row in each_once]

        parts = await asyncio.gather(*map(ask, servers))
        return [job for part in parts for job in part]


async def ask_running(collector: Collector) -> dict[tuple[str, str], list[JobRow]]:
    """What workers are doing, by their address and client id, the longest first.

    Of each job server it is the MAX_RUNNING jobs that have run longest.
    """

    async def ask(server: ServerLook) -> list[JobRow]:
        try:
            return await collector.client_of(server).find_jobs("running", limit=MAX_RUNNING)
        except GearmanError:  # the next look says why
            return []

    servers = [each for each in collector.fleet.answering if each.counts]
    found: dict[tuple[str, str], list[JobRow]] = {}
    for rows in await asyncio.gather(*map(ask, servers)):
        for row in rows:
            found.setdefault((row.address, row.client_id), []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: -row.seconds)
    return found


async def _with_handle(client: AsyncAdminClient, handle: str) -> list[JobRow]:
    try:
        return [await client.find_job(handle, size=0)]
    except (AdminError, ValueError):  # it has none, or shows none
        return []


def _count(server: ServerLook, state: str, function: str) -> int:
    if not function:
        return server.count(state)
    stats = server.functions.get(function)
    return getattr(stats, state) if stats else 0


def _kept(state: str, function: str) -> tuple[tuple[str, str], ...]:
    pairs = (("state", state), ("function", function))
    return tuple(pair for pair in pairs if pair[1])


def show_workload(workload: bytes) -> str:
    """A workload as text if it is text, else as numbers and characters, 16 bytes a line."""
    try:
        text = workload.decode()
    except UnicodeDecodeError as error:
        # The cut may be within a character.
        text = workload[: error.start].decode() if error.start > len(workload) - 4 else "\0"
    if all(char.isprintable() or char in "\n\t\r" for char in text):
        return text
    lines = []
    for start in range(0, len(workload), 16):
        part = workload[start : start + 16]
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {part.hex(' '):47}  {characters}")
    return "\n".join(lines)
