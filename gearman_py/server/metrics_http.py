"""--metrics-listen: GET /metrics for Prometheus, GET /healthz for load balancers and probes."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from gearman_py import __version__
from gearman_py.protocol.http import (
    Reader,
    Refused,
    Request,
    accepted_quality,
    answer,
    answer_head,
)
from gearman_py.server import process_usage
from gearman_py.server.health import find_problem
from gearman_py.server.listener import Listener
from gearman_py.server.metrics import OPENMETRICS, TEXT, collect, render

MAX_CONNECTIONS = 16  # scrapers are few, and a response may take some megabytes
READ_TIMEOUT = 60.0  # seconds for a request to arrive, or its response to be read
PAGES = b"GET /metrics or /healthz\n"
SERVER = f"Gearman/{__version__}"
PLAIN = "text/plain; charset=utf-8"

Page = tuple[HTTPStatus, Sequence[bytes], str]


class MetricsPages:
    """The pages /metrics and /healthz.

    ``connections``: open connections to them, the one that was active least recently first.
    """

    def __init__(self, listener: Listener) -> None:
        self.connections: dict[MetricsConnection, None] = {}
        self._listener = listener
        self._collecting = asyncio.Lock()
        self._snapshots: dict[bool, tuple[float, Sequence[bytes]]] = {}  # by format, with the time
        process_usage.start_time()  # later there may be no descriptor left to find it out

    async def find(self, request: Request) -> Page:
        """Return the response to a request: status, parts of the body, and content type."""
        if request.method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, [PAGES], PLAIN
        if request.name == b"metrics":
            openmetrics = _prefers_openmetrics(request.headers.get("accept", ""))
            kind = OPENMETRICS if openmetrics else TEXT
            return HTTPStatus.OK, await self._snapshot(openmetrics), kind
        if request.name == b"healthz":
            why = find_problem(self._listener)
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            return status, [f"{why or 'ok'}\n".encode()], PLAIN
        return HTTPStatus.NOT_FOUND, [PAGES], PLAIN

    async def _snapshot(self, openmetrics: bool) -> Sequence[bytes]:
        """Return current metrics. Requests that arrive during a collection share the next one."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._collecting:
            since, parts = self._snapshots.get(openmetrics, (-1.0, ()))
            if since < asked:
                since, parts = loop.time(), []
                for part in render(await collect(self._listener), openmetrics=openmetrics):
                    parts.append(part)
                    await asyncio.sleep(0)  # jobs are served meanwhile
                self._snapshots[openmetrics] = since, parts
        return parts


def _prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is more welcome than text, or as welcome and named."""
    name = OPENMETRICS.partition(";")[0]
    wanted, text = accepted_quality(accept, name), accepted_quality(accept, "text/plain")
    return wanted > text or (wanted == text > 0 and name in accept.lower())


class MetricsConnection(asyncio.Protocol):
    """A connection to --metrics-listen."""

    def __init__(self, pages: MetricsPages) -> None:
        self._pages = pages
        self._reader = Reader(max_body=0)
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(READ_TIMEOUT, self._transport.abort)
        others = self._pages.connections
        if len(others) >= MAX_CONNECTIONS:  # close the one that has been idle longest
            idle = (each for each in others if each._answering is None)
            next(idle, next(iter(others))).close()
        others[self] = None

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        """Close it at once."""
        self._pages.connections.pop(self, None)
        self._deadline.cancel()
        self._transport.abort()
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._answering is None:
            self._answering = self._loop.create_task(self._answer_all())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def _answer_all(self) -> None:
        """Answer the requests in order, as fast as the responses are read."""
        self._transport.pause_reading()
        try:
            while (request := self._reader.next()) is not None:
                await self._answer(request)
                if not request.keeps_alive:
                    self._transport.close()
                    return
        except Refused as refused:
            self._transport.write(answer(None, refused.status, f"{refused}\n".encode()))
            self._transport.close()
            return
        self._answering = None
        self._transport.resume_reading()

    async def _answer(self, request: Request) -> None:
        self._deadline.cancel()
        self._deadline = self._loop.call_later(READ_TIMEOUT, self._transport.abort)
        if self in self._pages.connections:  # move to the end, as the most recently active
            self._pages.connections[self] = self._pages.connections.pop(self)
        status, parts, kind = await self._pages.find(request)
        headers = {"Content-Type": kind, "Server": SERVER}
        length = sum(map(len, parts))
        self._transport.write(answer_head(request, status, length, **headers))
        for part in () if request.method == "HEAD" else parts:
            await self._writable.wait()
            self._transport.write(part)
        await self._writable.wait()
