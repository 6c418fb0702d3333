"""The page of workers: each of them, or by host, pool, app or release."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.answers import JobRow
from gearman_py.web.collector import Collector
from gearman_py.web.job_pages import ask_running
from gearman_py.web.listing import Column, Query, cut_page, sort_rows
from gearman_py.web.login import Render
from gearman_py.web.worker_rows import LABELS, Identity, WorkerRow

KINDS = ("host", *LABELS)
COLUMNS = {
    each.key: each
    for each in (
        Column("host", "Host", "", lambda row: (row.address, row.client_id), numeric=False),
        Column("id", "Worker", "", lambda row: row.client_id, numeric=False),
        Column("pool", "Pool", "", lambda row: row.facts["pool"], numeric=False),
        Column("app", "App", "", lambda row: row.facts["app"], numeric=False),
        Column("release", "Release", "", lambda row: row.facts["release"], numeric=False),
        Column("functions", "Functions", "", lambda row: len(row.functions), right=False),
        Column(
            *("connections", "Connections", "a slot has one to each server"),
            lambda row: row.connections,
        ),
        Column("servers", "Servers", "to which it is connected", lambda row: len(row.servers)),
        Column("since", "Seen for", "by this page", lambda row: row.since),
    )
}


@dataclass
class WorkerGroup:
    """Workers that have something in common: how many, and what else they are.

    ``busy`` ones run a job; the one that came last was first seen at ``newest``.
    """

    name: str
    workers: int = 0
    busy: int = 0
    newest: float = 0.0
    facts: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def add(self, row: WorkerRow, *, busy: bool) -> None:
        self.workers += 1
        self.busy += busy
        self.newest = max(self.newest, row.since)
        for kind, value in row.facts.items():
            if value:
                self.facts[kind][value] = self.facts[kind].get(value, 0) + 1


class WorkerPages:
    """Workers, all or those of a function, host, pool, app or release."""

    def __init__(self, collector: Collector, render: Render) -> None:
        self._collector = collector
        self._render = render

    async def workers(self, request: Request) -> Response:
        values = request.query_params
        query = Query.of("/workers", values, "function", *KINDS, "by")
        wanted = {kind: values[kind] for kind in KINDS if values.get(kind)}
        function = values.get("function", "")
        found = [
            row
            for row in self._collector.fleet.workers
            if (not function or function in row.functions)
            and wanted.items() <= row.facts.items()
            and (query.text in row.address or query.text in row.client_id)
        ]
        known = [kind for kind in KINDS if any(row.facts[kind] for row in found)]
        by = values.get("by", "")
        by = by if by in known else ""
        running = await ask_running(self._collector)
        columns = [each for key, each in COLUMNS.items() if key not in LABELS or key in known]
        rows, sorted_by = sort_rows(query, columns, found, "host")
        groups = _group(rows, by, running) if by else []
        others = {key: value for key, value in query.others if key != "by"}
        return self._render(
            request,
            "workers.html",
            query=query,
            columns=columns,
            labels=[kind for kind in LABELS if kind in known],
            sorted_by=sorted_by,
            page=cut_page(query, groups or rows),
            total=len(rows),
            hosts=len({row.address for row in rows}),
            running=running,
            function=function,
            wanted=wanted,
            kinds=known,
            by=by,
            links={
                kind: query.link(
                    others=(*others.items(), *([("by", kind)] if kind else [])),
                    sort="",
                    reverse=False,
                    page=1,
                )
                for kind in ("", *known)
            },
        )


def _group(
    rows: list[WorkerRow], by: str, running: Mapping[Identity, list[JobRow]]
) -> list[WorkerGroup]:
    """The largest group first; what does not say what it is comes last."""
    groups: dict[str, WorkerGroup] = {}
    for row in rows:
        name = row.facts[by]
        group = groups.setdefault(name, WorkerGroup(name))
        group.add(row, busy=bool(row.client_id) and (row.address, row.client_id) in running)
    return sorted(groups.values(), key=lambda each: (not each.name, -each.workers, each.name))
