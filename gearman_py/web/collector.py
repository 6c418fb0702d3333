"""The collector: asks all job servers at intervals, whether or not anybody looks.

The work of a job server for it is bounded: it is asked only so often that answering takes at most
a small share of its time.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.answers import FunctionStats, WorkerInfo, is_unknown_command, parse_rows
from gearman_py.errors import AdminError, GearmanError, ServerUnavailable
from gearman_py.net.servers import ServerAddress
from gearman_py.protocol.text import EMPTY_NAME
from gearman_py.web.counters import Baseline, Counters
from gearman_py.web.fleet import Fleet, ServerLook
from gearman_py.web.history import History
from gearman_py.web.users import DashboardUser

SERVER_TIMEOUT = 5.0  # seconds
LATE = 60.0  # seconds that a round may take
PAUSE = 20  # times as long as the slowest answer took, at least

log = logging.getLogger(__name__)

Ask = Callable[[AsyncAdminClient, ServerLook], Awaitable[ServerLook]]


class Collector:
    """Keeps ``fleet`` up to date and writes ``history``; ``updated`` is set after each round."""

    def __init__(
        self,
        servers: Sequence[ServerAddress],
        history: History,
        interval: float,
        names: Sequence[str] = (),
        operated: Sequence[ServerAddress] = (),
    ) -> None:
        """``names``: what to call the servers, if not by their addresses. ``operated``: where those
        who operate ask them, such as their admin sockets, if elsewhere.
        """
        named = names or [str(each) for each in servers]
        self.fleet = Fleet()
        self.fleet.servers = [
            ServerLook(number, name, each.tls is not None)
            for number, (name, each) in enumerate(zip(named, servers, strict=True))
        ]
        self.history = history
        self.interval = interval
        self.history_problem = ""
        self._servers = list(servers)
        self._showing = asyncio.Lock()
        self._next_by = time.monotonic() + LATE
        self._operated = list(operated) or self._servers
        self._clients = [_make_client(server) for server in servers]
        pairs = zip(servers, self._operated, self._clients, strict=True)
        self._operators = [
            client if usual == other else _make_client(other) for usual, other, client in pairs
        ]
        self._baselines = history.baselines()
        self._pauses: dict[int, float] = {}  # until when a server is not asked again

    def client_of(self, server: ServerLook, user: DashboardUser | None = None) -> AsyncAdminClient:
        """The client of a job server by which ``user`` reads; tasks may share it."""
        clients = self._operators if user is not None and user.operates else self._clients
        return clients[server.number]

    def operator_client(self, server: ServerLook, user: str) -> AsyncAdminClient:
        """A client of a job server that says who uses it; to be closed. One word is sent."""
        word = "".join(char if char.isprintable() and char != " " else "_" for char in user)
        return _make_client(self._operated[server.number], word)

    @property
    def is_late(self) -> bool:
        """Whether a round is so late that something must be wrong with it."""
        return time.monotonic() > self._next_by

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        try:
            while True:
                try:
                    pause = await self._look_in_time()
                except Exception:  # such as an answer that nothing here is prepared for
                    log.exception("a look at the job servers failed; the next one follows")
                    pause = self.interval
                await asyncio.sleep(pause)
        finally:
            for client in {*self._clients, *self._operators}:
                await client.close()

    async def _look_in_time(self) -> float:
        """Ask all servers whose turn it is; return after how many seconds to do so again."""
        began = time.monotonic()
        await self._look(self._ask_in_turn, self.fleet.servers)
        pause = max(0.0, self.interval - (time.monotonic() - began))
        self._next_by = time.monotonic() + pause + LATE
        return pause

    async def look(self, silent: Collection[str] = ()) -> None:
        """Ask the servers that answered last, less those that are known to be ``silent`` by now.

        Who waits for a page waits for no other: those are asked again in their turn.
        """
        servers = [
            each
            for each in self.fleet.servers
            if (each.answers or not each.since) and each.address not in silent
        ]
        await self._look(self._ask, servers)

    async def _look(self, ask: Ask, servers: Sequence[ServerLook]) -> None:
        looks = await asyncio.gather(*(ask(self._clients[each.number], each) for each in servers))
        async with self._showing:
            await self._show(looks)

    async def _show(self, looks: Sequence[ServerLook]) -> None:
        """Show what servers said, unless they have been asked again since."""
        servers = list(self.fleet.servers)
        fresh = [each for each in looks if each.asked > servers[each.number].asked]
        for server in fresh:
            servers[server.number] = server
        now = time.time()
        news: dict[str, Counters] = {}
        for server in fresh:
            if server.answers and server.counts:
                baseline = self._baselines.setdefault(server.address, Baseline())
                for name, counters in baseline.advance(
                    server.pid, server.functions.values()
                ).items():
                    known = news.get(name)
                    news[name] = known.plus(counters) if known else counters
        found = self.fleet.join(now, servers)
        record = partial(self.history.record, now, found.functions, found.total, news)
        try:
            await asyncio.to_thread(record, self._baselines)
        except (sqlite3.Error, OverflowError) as error:
            if not self.history_problem:
                log.error("the history cannot be written: %s", error)
            self.history_problem = str(error)
        else:
            self.history_problem = ""
        self.fleet.update(time.monotonic(), found, news)

    async def _ask_in_turn(self, client: AsyncAdminClient, old: ServerLook) -> ServerLook:
        """Ask a server; what it said before, if it has been busy with that until a moment ago."""
        if time.monotonic() < self._pauses.get(old.number, 0.0):
            return old
        look = await self._ask(client, old)
        self._pauses[old.number] = time.monotonic() + PAUSE * look.seconds
        return look

    async def _ask(self, client: AsyncAdminClient, old: ServerLook) -> ServerLook:
        began, now = time.monotonic(), time.time()
        look = ServerLook(old.number, old.address, old.tls, why="", asked=began)
        try:
            look.pid = old.pid if old.answers else 0
            look.version = await client.version()
            look.pid = await client.pid()
            look.functions = await _ask_functions(client, look)
            look.seconds = time.monotonic() - began
            look.connections = await _ask_connections(client, look)
            if look.counts:
                with suppress(AdminError):  # an earlier version of ours
                    look.facts = await client.facts()
                operator = self._operators[old.number]
                look.steered = operator is not client or not look.fact("admin_only")
        except ServerUnavailable:
            look.why = client.passed_over[0][1]
        except GearmanError as error:
            look.why = str(error)
        except ValueError:
            look.why = "it does not answer as a Gearman job server does"
        same = look.answers == old.answers and look.pid == old.pid and old.since
        look.since = old.since if same else now
        return look


def _make_client(server: ServerAddress, client_id: str = "") -> AsyncAdminClient:
    return AsyncAdminClient(
        [server], connect_timeout=SERVER_TIMEOUT, timeout=SERVER_TIMEOUT, client_id=client_id
    )


async def _ask_connections(client: AsyncAdminClient, look: ServerLook) -> list[WorkerInfo]:
    """As AsyncAdminClient.workers(), but with the functions that are known already."""
    spaced = any(" " in name for name in look.functions)
    parse = partial(WorkerInfo.from_line, known=frozenset(look.functions) if spaced else ())
    return parse_rows(client.server, "workers", await client.listing("workers"), parse)


async def _ask_functions(client: AsyncAdminClient, look: ServerLook) -> dict[str, FunctionStats]:
    try:
        rows = await client.stats()
    except AdminError as error:
        if not is_unknown_command(error):
            raise
    else:
        look.counts = True
        return {each.name: each for each in map(_named, rows)}
    return {  # of C gearmand
        each.name: each
        for each in (
            _named(FunctionStats(row.name, row.total, row.running, row.waiting, 0, row.workers))
            for row in await client.status()
        )
    }


def _named(row: FunctionStats) -> FunctionStats:
    """With the empty name as our job servers list it: those of C do not escape it."""
    return row if row.name else row._replace(name=EMPTY_NAME.decode())
