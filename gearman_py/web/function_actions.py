"""Actions on a function, at all job servers: its page leads to them."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.answers import FunctionStats
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import FunctionRow, ServerLook
from gearman_py.web.formats import format_count, format_period_rate, raw_name
from gearman_py.web.login import Render
from gearman_py.web.operating import Act, Operator

ACTIONS = ("pause", "resume", "limit", "purge")
LIMITS = ("running", "rate", "per_key", "separator")
MAX_LIMIT = 10**9


class FunctionActions:
    """Pauses, limits and purges a function. What needs more than a button has a page of its own."""

    def __init__(self, collector: Collector, render: Render, operator: Operator) -> None:
        self._collector = collector
        self._render = render
        self._operator = operator

    async def limits(self, request: Request) -> Response:
        """The form of its limits, filled with those that are set."""
        row, servers = await self._look_at(request, "limit")
        known = {
            each.address: each.functions.get(row.name, FunctionStats(row.name))
            for each in servers
            if each.answers
        }
        limited = [stats for stats in known.values() if _has_limit(stats)]
        return self._render(
            request,
            "limits.html",
            row=row,
            form=_fill_form(limited[0] if limited else FunctionStats(row.name)),
            known=known,
            differ=len(set(map(_limits_of, known.values()))) > 1,
        )

    async def purge(self, request: Request) -> Response:
        """The page that tells how many jobs a purge would cancel."""
        row, servers = await self._look_at(request, "purge")
        stats = {
            each.address: each.functions.get(row.name, FunctionStats(row.name))
            for each in servers
            if each.answers and each.counts
        }
        return self._render(
            request,
            "purge.html",
            row=row,
            servers=servers,
            stats=stats,
            waiting=sum(each.waiting for each in stats.values()),
            scheduled=sum(each.scheduled for each in stats.values()),
        )

    async def change(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "This page does not exist.")
        fields = await self._operator.read_form(request, action)
        row = self._find_row(fields.get("function", ""))
        if action == "limit":
            fields = _drop_untouched(fields)
        act = _make_act(action, raw_name(row.name), fields)
        outcomes = await self._operator.carry_out(
            request, action, fields, self._find_servers(row.name), act
        )
        return await self._operator.lead_back(request, action, outcomes, "/function", name=row.name)

    async def _look_at(self, request: Request, action: str) -> tuple[FunctionRow, list[ServerLook]]:
        self._operator.check_role(request, action)
        await self._collector.look()
        row = self._find_row(request.query_params.get("function", ""))
        return row, self._find_servers(row.name)

    def _find_row(self, name: str) -> FunctionRow:
        row: FunctionRow | None = self._collector.fleet.functions.get(name)
        if row is None:
            raise HTTPException(404, f"No job server that answers knows a function {name!r}.")
        return row

    def _find_servers(self, function: str) -> list[ServerLook]:
        """All of ours, as clients may submit to any of them, and others that have it."""
        return [
            server
            for server in self._collector.fleet.servers
            if server.counts or not server.answers or function in server.functions
        ]


def _make_act(action: str, name: str, fields: Mapping[str, str]) -> Act:
    """Raises HTTPException for limits that make no sense."""
    running, per_key = (_parse_count(fields, each) for each in ("running", "per_key"))
    rate = (fields["rate"].strip() or "0") if "rate" in fields else None
    limits: dict[str, Any] = {"running": running, "rate": rate, "per_key": per_key}
    touched = {what: limit for what, limit in limits.items() if limit is not None}
    if rate and any(char.isspace() or not char.isprintable() for char in rate):
        raise HTTPException(400, f"{rate!r} is not a rate; expected one such as 100/s or 20/m.")

    async def act(client: AsyncAdminClient) -> str:
        match action:
            case "pause":
                await client.pause(name)
                return "paused"
            case "resume":
                await client.resume(name)
                return "resumed"
            case "limit":
                if not touched:
                    return "nothing was changed"
                await client.limit(name, **limits, separator=fields.get("separator") or ":")
                none = len(touched) == len(limits) and set(touched.values()) <= {0, "0"}
                return "no limits" if none else "limits set"
        return f"{format_count(len(await client.purge(name)), 'job')} cancelled"

    return act


def _fill_form(stats: FunctionStats) -> dict[str, str]:
    """The fields of the form of limits; an empty one: no limit."""
    return {
        "running": str(stats.max_running or ""),
        "rate": format_period_rate(stats),
        "per_key": str(stats.max_per_key or ""),
        "separator": stats.key_separator or ":",
    }


def _drop_untouched(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form without those that are as they were when it was opened.

    Such a limit may have been changed by someone else since. A key has its separator.
    """
    touched = {name for name in LIMITS if fields.get(name) != fields.get(f"was_{name}")}
    if touched & {"per_key", "separator"}:
        touched |= {"per_key", "separator"}
    return {name: text for name, text in fields.items() if name in touched or name not in LIMITS}


def _parse_count(fields: Mapping[str, str], name: str) -> int | None:
    """A number of a form; 0 if it is empty, None if it is not there. Raises HTTPException."""
    if name not in fields:
        return None
    text = fields[name].strip() or "0"
    if not text.isascii() or not text.isdigit() or int(text) > MAX_LIMIT:
        raise HTTPException(400, f"{text!r} is not a number of jobs.")
    return int(text)


def _limits_of(stats: FunctionStats) -> tuple[object, ...]:
    key = (stats.max_per_key, stats.key_separator) if stats.max_per_key else ()
    return stats.max_running, stats.max_started, stats.period_seconds, key


def _has_limit(stats: FunctionStats) -> bool:
    return bool(stats.max_running or stats.max_started or stats.max_per_key)
