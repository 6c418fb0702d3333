"""The web application: its routes, and what every response carries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gearman_py.web.access import Access
from gearman_py.web.collector import Collector
from gearman_py.web.deploy_pages import DeployPages
from gearman_py.web.deploy_records import ReadDeploys
from gearman_py.web.failed_pages import FailedPages
from gearman_py.web.function_actions import FunctionActions
from gearman_py.web.guard import Guard
from gearman_py.web.job_actions import JobActions
from gearman_py.web.job_pages import JobPages
from gearman_py.web.login import LoginPages
from gearman_py.web.operating import Operator
from gearman_py.web.pages import Pages
from gearman_py.web.schedule_pages import SchedulePages
from gearman_py.web.worker_pages import WorkerPages

STATIC = Path(__file__).parent / "static"


def make_app(
    collector: Collector, access: Access, read_deploys: ReadDeploys | None = None
) -> ASGIApp:
    """The application. It runs the collector while it is up."""

    @asynccontextmanager
    async def run_collector(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(collector.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        collector.history.close()

    def show_error(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return pages.render(request, "error.html", error.status_code, text=error.detail)
        text = "Something went wrong here; the log of gearman-web says what."
        return pages.render(request, "error.html", 500, text=text)

    pages = Pages(collector, access)
    app = Starlette(
        routes=_make_routes(collector, access, pages, read_deploys),
        exception_handlers={HTTPException: show_error, 500: show_error},
        lifespan=run_collector,
    )
    return Guard(app, access)  # around the handler of errors, too


def _make_routes(
    collector: Collector, access: Access, pages: Pages, read_deploys: ReadDeploys | None
) -> list[BaseRoute]:
    jobs = JobPages(collector, pages.render)
    login = LoginPages(access, pages.render)
    operator = Operator(collector, access, pages.notices)
    failed = FailedPages(collector, pages.render, operator)
    functions = FunctionActions(collector, pages.render, operator)
    schedules = SchedulePages(collector, pages.render, operator)
    job_actions = JobActions(operator)
    deploys = DeployPages(read_deploys, pages.render)
    worker_pages = WorkerPages(collector, pages.render)

    async def healthz(request: Request) -> Response:
        """200 while the collector works, whatever it finds."""
        if collector.is_late:
            return PlainTextResponse("the collector has stopped\n", 503)
        return PlainTextResponse("ok\n")

    return [
        Route("/", pages.overview),
        Route("/functions", pages.functions),
        Route("/function", pages.function),
        Route("/function/limits", functions.limits),
        Route("/function/confirm", functions.purge),
        Route("/function/{action}", functions.change, methods=["POST"]),
        Route("/schedules", schedules.schedules),
        Route("/schedule/{action}", schedules.change, methods=["POST"]),
        Route("/failed", failed.failed),
        Route("/failed/confirm", failed.confirm),
        Route("/failed/{action}", failed.change, methods=["POST"]),
        Route("/jobs", jobs.jobs),
        Route("/job", jobs.job),
        Route("/job/{action}", job_actions.change, methods=["POST"]),
        Route("/workers", worker_pages.workers),
        Route("/deploys", deploys.deploys),
        Route("/servers", pages.servers),
        Route("/runbook", pages.runbook),
        Route("/login", login.form),
        Route("/login", login.log_in, methods=["POST"]),
        Route("/enter", login.enter),
        Route("/logout", login.log_out, methods=["POST"]),
        Route("/healthz", healthz),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
