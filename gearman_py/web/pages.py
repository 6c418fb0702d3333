"""The pages: what each request shows, from what the collector knows."""

import asyncio
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gearman_py import __version__
from gearman_py.web.access import Access
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import FunctionRow
from gearman_py.web.formats import FILTERS
from gearman_py.web.function_detail import (
    SHARES,
    ask_detail,
    ask_newest_failures,
    ask_submitters,
)
from gearman_py.web.history import ALL, MAX_SERIES, RESOLUTIONS
from gearman_py.web.listing import Column, Query, cut_page, sort_rows
from gearman_py.web.notices import Notices
from gearman_py.web.panels import make_panels, mark_untold, time_panels
from gearman_py.web.problems import FleetProblem, find_problems
from gearman_py.web.runbook import read_runbook

BUSIEST = 10  # functions on the overview
NAVIGATION = (
    ("/", "Overview"),
    ("/functions", "Functions"),
    ("/jobs", "Jobs"),
    ("/failed", "Failed"),
    ("/schedules", "Schedules"),
    ("/workers", "Workers"),
    ("/servers", "Servers"),
    ("/deploys", "Deploys"),
)

FUNCTION_COLUMNS = (
    Column("name", "Function", "", lambda row: row.name, numeric=False),
    Column("waiting", "Waiting", "jobs that wait for a worker", lambda row: row.stats.waiting),
    Column("oldest", "Oldest", "how long the oldest waits", lambda row: row.stats.oldest_seconds),
    Column("running", "Running", "jobs that workers have", lambda row: row.stats.running),
    Column("workers", "Workers", "slots that can do it", lambda row: row.stats.workers),
    Column("in", "In/s", "jobs in a second, last minute", lambda row: row.minute.accepted),
    Column("done", "Done/s", "jobs done a second, last minute", lambda row: row.minute.completed),
    Column("failed", "Failing", "share, last 15 minutes", lambda row: row.recent.failed_share),
    Column("wait", "Wait", "average, last minute", lambda row: row.minute.mean_wait or 0.0),
    Column("run", "Run time", "average, last minute", lambda row: row.minute.mean_run or 0.0),
)


class Pages:
    """Renders pages. Each method that takes a request is a page."""

    def __init__(self, collector: Collector, access: Access) -> None:
        self._collector = collector
        self._access = access
        self._environment = Environment(
            loader=PackageLoader("gearman_py.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(FILTERS)
        self._problems: tuple[int, list[FleetProblem]] = (-1, [])
        self._runbook = read_runbook()
        self.notices = Notices()

    @property
    def problems(self) -> list[FleetProblem]:
        """What is wrong, as of the last round."""
        rounds, found = self._problems
        fleet = self._collector.fleet
        if rounds != fleet.rounds:
            found = find_problems(fleet, self._collector.history_problem)
            self._problems = fleet.rounds, found
        return found

    def render(
        self, request: Request, template: str, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A page, with what all pages show."""
        fleet = self._collector.fleet
        common: Mapping[str, Any] = {
            "user": getattr(request.state, "user", None),
            "form_token": self._access.form_token(request),
            "may_log_out": self._access.session(request) is not None,
            "notice": self.notices.find(request),
            "fleet": fleet,
            "problems": self.problems,
            "navigation": NAVIGATION,
            "path": request.url.path,
            "interval": self._collector.interval,
            "version": __version__,
            "resolutions": RESOLUTIONS,
        }
        text = self._environment.get_template(template).render({**common, **values})
        return HTMLResponse(text, status)

    async def overview(self, request: Request) -> Response:
        fleet = self._collector.fleet
        resolution = RESOLUTIONS.get(request.query_params.get("range", ""), RESOLUTIONS["hour"])
        steps = self._collector.history.steps(ALL, resolution, fleet.when)
        busiest = sorted(
            fleet.functions.values(),
            key=lambda row: (
                -row.stats.waiting,
                -row.minute.accepted,
                -row.stats.running,
                row.name,
            ),
        )
        return self.render(
            request,
            "overview.html",
            resolution=resolution,
            panels=mark_untold(
                fleet, fleet.total, make_panels(fleet, fleet.total, steps, resolution)
            ),
            columns=FUNCTION_COLUMNS,
            busiest=busiest[:BUSIEST],
        )

    async def functions(self, request: Request) -> Response:
        query = Query.of("/functions", request.query_params)
        found = [row for row in self._collector.fleet.functions.values() if query.text in row.name]
        rows, sorted_by = sort_rows(query, FUNCTION_COLUMNS, found, "waiting")
        return self.render(
            request,
            "functions.html",
            query=query,
            columns=FUNCTION_COLUMNS,
            sorted_by=sorted_by,
            page=cut_page(query, rows),
        )

    async def function(self, request: Request) -> Response:
        fleet = self._collector.fleet
        name = request.query_params.get("name", "")
        row: FunctionRow | None = fleet.functions.get(name)
        if row is None:
            raise HTTPException(404, f"No job server that answers knows a function {name!r}.")
        resolution = RESOLUTIONS.get(request.query_params.get("range", ""), RESOLUTIONS["hour"])
        steps = self._collector.history.steps(name, resolution, fleet.when)
        panels = make_panels(fleet, row, steps, resolution)
        panels += time_panels(fleet, row, steps, resolution)
        servers = [server for server in fleet.answering if name in server.functions]
        serving = [worker for worker in fleet.workers if name in worker.functions]
        detail, (failed_jobs, failures), submitters = await asyncio.gather(
            ask_detail(self._collector, name),
            ask_newest_failures(self._collector, request.state.user, name),
            ask_submitters(self._collector, name),
        )
        return self.render(
            request,
            "function.html",
            row=row,
            resolution=resolution,
            panels=mark_untold(fleet, row, panels),
            steps=steps,
            max_series=MAX_SERIES,
            servers=servers,
            paused_at=sum(bool(server.functions[name].paused) for server in servers),
            serving=serving[:BUSIEST],
            serving_count=len(serving),
            detail=detail,
            failed_jobs=failed_jobs,
            failures=failures,
            submitters=(submitters or [])[:BUSIEST],
            submitter_count=None if submitters is None else len(submitters),
            shares=SHARES,
            own_problems=[problem for problem in self.problems if problem.function == name],
        )

    async def servers(self, request: Request) -> Response:
        return self.render(request, "servers.html")

    async def runbook(self, request: Request) -> Response:
        return self.render(request, "runbook.html", sections=self._runbook)
