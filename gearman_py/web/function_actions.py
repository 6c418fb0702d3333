"""Pausing and resuming a function: its page has their buttons."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.formats import raw_name
from gearman_py.web.operating import Operator

ACTIONS = {
    "pause": (AsyncAdminClient.pause, "paused"),
    "resume": (AsyncAdminClient.resume, "resumed"),
}


class FunctionActions:
    """Changes functions at all job servers."""

    def __init__(self, collector: Collector, operator: Operator) -> None:
        self._collector = collector
        self._operator = operator

    async def change(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise HTTPException(404, "This page does not exist.")
        fields = await self._operator.read_form(request, action)
        name = fields.get("function", "")
        if name not in self._collector.fleet.functions:
            raise HTTPException(404, f"No job server that answers knows a function {name!r}.")
        change, done = ACTIONS[action]

        async def change_at(client: AsyncAdminClient) -> str:
            await change(client, raw_name(name))
            return done

        outcomes = await self._operator.carry_out(
            request, action, fields, self._find_servers(name), change_at
        )
        return await self._operator.lead_back(request, action, outcomes, "/function", name=name)

    def _find_servers(self, function: str) -> list[ServerLook]:
        """All of ours, as clients may submit to any of them, and others that have it."""
        return [
            server
            for server in self._collector.fleet.servers
            if server.counts or not server.answers or function in server.functions
        ]
