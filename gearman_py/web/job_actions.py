"""Changing a job that waits: its priority, when it is due, or that it runs next."""

import math
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.web.formats import format_moment
from gearman_py.web.function_detail import PRIORITIES
from gearman_py.web.operating import Act, Operator

ACTIONS = ("prioritize", "reschedule", "run-now")


class JobActions:
    """Changes a job where it is; the forms are on its page."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def change(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "This page does not exist.")
        event = action.replace("-", " ")
        fields = await self._operator.read_form(request, event)
        handle, servers = fields.get("handle", ""), self._operator.find_server(fields)
        if not handle:
            raise HTTPException(404, "The job is not named.")
        act = _make_act(action, handle, fields)
        outcomes = await self._operator.carry_out(request, event, fields, servers, act)
        words = {"server": fields["server"], "handle": handle}
        path = "/job"
        if action == "run-now":  # it may be over by then
            path, words = "/jobs", {"function": fields.get("function", "")}
        return await self._operator.lead_back(request, event, outcomes, path, **words)


def _make_act(action: str, handle: str, fields: dict[str, str]) -> Act:
    """Raises HTTPException for a priority or time that makes no sense."""
    priority, at = fields.get("priority", ""), 0.0
    if action == "prioritize" and priority not in PRIORITIES:
        raise HTTPException(400, f"Unknown priority {priority!r}; expected high, normal or low.")
    if action == "reschedule":
        at = _parse_time(fields.get("at", ""))

    async def act(client: AsyncAdminClient) -> str:
        if action == "prioritize":
            await client.prioritize(handle, priority)
            return f"{handle} has {priority} priority"
        if action == "reschedule":
            await client.reschedule(handle, at)
            return f"{handle} runs not before {format_moment(at)}"
        await client.run_now(handle)
        return f"{handle} is the next job of its function and priority"

    return act


def _parse_time(text: str) -> float:
    """What a browser's field for a time says, in the time zone of this machine."""
    try:
        at = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        at = math.nan
    if not at > 0:
        raise HTTPException(400, f"{text!r} is not a time; expected one such as 2030-01-31T18:00.")
    return at
