"""The page of deploys: what was done to the hosts, by whom, as they remember it."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from gearman_py.web.deploy_records import ReadDeploys, ToldDeploys
from gearman_py.web.listing import Query, cut_page
from gearman_py.web.login import Render

# A host may tell anything.
MAX_TEXT = 300  # characters
MAX_HOSTS = 1000
MAX_MOVES = 50
MAX_CHANGES = 10**6
AHEAD = 3600.0  # seconds by which a host's clock may be ahead
PATIENCE = 10.0  # seconds for which a page waits for hosts


class Deploy(NamedTuple):
    """A run of the toolkit and how it went on some hosts; ``at``: in seconds since 1970.

    ``moves``: each release that was brought, with its app and what ran before.
    """

    at: float
    who: str
    command: str
    hosts: tuple[str, ...]
    moves: tuple[tuple[str, str, str], ...]
    changes: int
    result: str

    @property
    def went_well(self) -> bool:
        return self.result == "ok"

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "Deploy":
        """From an entry of a history; what makes no sense in it is left out."""
        apps = entry.get("apps")
        moves = [(entry.get("app", ""), entry), *(apps.items() if isinstance(apps, dict) else ())]
        changes = entry.get("changes")
        hosts = entry.get("hosts")
        return cls(
            _moment(entry.get("at")),
            _text(entry.get("who")),
            _text(entry.get("doing")),
            tuple(map(_text, hosts[:MAX_HOSTS])) if isinstance(hosts, list) else (),
            tuple(
                (_text(app), _text(move.get("release")), _text(move.get("from")))
                for app, move in moves[:MAX_MOVES]
                if isinstance(move, Mapping)
            ),
            changes if isinstance(changes, int) and 0 <= changes <= MAX_CHANGES else 0,
            _text(entry.get("result")),
        )


def _moment(value: object) -> float:
    """A time that has come, or nearly; 0 for others: they do not stay on top."""
    try:
        at = datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return at if 0 < at <= time.time() + AHEAD else 0.0


def _text(value: object) -> str:
    return "" if value is None else str(value)[:MAX_TEXT]


class DeployPages:
    """The hosts' history; ``read`` is None where nothing tells it."""

    def __init__(self, read: ReadDeploys | None, render: Render) -> None:
        self._read = read
        self._render = render
        self._told = ToldDeploys(())
        self._reading: asyncio.Task[ToldDeploys] | None = None

    async def deploys(self, request: Request) -> Response:
        query = Query.of("/deploys", request.query_params)._replace(sort="", reverse=False)
        told = await self._ask(self._read) if self._read else self._told
        found = [
            deploy
            for deploy in map(Deploy.from_entry, told.entries)
            if any(query.text in text for text in (*deploy.hosts, deploy.who, *_names(deploy)))
        ]
        found.sort(key=lambda deploy: -deploy.at)
        return self._render(
            request,
            "deploys.html",
            query=query,
            page=cut_page(query, found),
            failures=told.failures,
            is_told=self._read is not None,
        )

    async def _ask(self, read: ReadDeploys) -> ToldDeploys:
        """What is known now, or if a host takes long, what was known before.

        However many ask, one thread reads: the others are needed to write the history.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(read))
        try:
            async with asyncio.timeout(PATIENCE):
                self._told = await asyncio.shield(self._reading)
        except TimeoutError:
            late = f"This is older: not all has been read within {PATIENCE:.0f} s."
            return ToldDeploys(self._told.entries, [late])
        return self._told


def _names(deploy: Deploy) -> tuple[str, ...]:
    return tuple(text for move in deploy.moves for text in move)
