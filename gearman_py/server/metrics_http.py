"""--metrics-listen: GET /metrics for Prometheus, GET /healthz for load balancers and probes."""

import asyncio
from http import HTTPStatus
from typing import cast

from gearman_py import __version__
from gearman_py.protocol.http import Reader, Refused, Request, answer
from gearman_py.server.listener import Listener
from gearman_py.server.metrics import OPENMETRICS, TEXT, collect, problem, render

MOST_CONNECTIONS = 64  # scrapers are few; each answer may take some megabytes
IDLE = 300.0  # seconds for a request and its answer to be read
PAGES = b"GET /metrics or /healthz\n"
SERVER = f"Gearman/{__version__}"
PLAIN = "text/plain; charset=utf-8"


class MetricsConnection(asyncio.Protocol):
    """A connection over which metrics are asked for; ``connections`` are all of them."""

    def __init__(self, listener: Listener, connections: "set[MetricsConnection]") -> None:
        self._listener = listener
        self._connections = connections
        self._reader = Reader(max_body=0)
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(IDLE, self._transport.abort)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._transport.abort()
        else:
            self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._deadline.cancel()
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
        """Answer the requests that have come, in order, as fast as their answers are read."""
        self._transport.pause_reading()
        try:
            while (request := self._reader.next()) is not None:
                self._deadline.cancel()
                self._deadline = self._loop.call_later(IDLE, self._transport.abort)
                status, body, kind = await self._page(request)
                headers = {"Content-Type": kind, "Server": SERVER}
                self._transport.write(answer(request, status, body, **headers))
                await self._writable.wait()
                if not request.keeps_alive:
                    self._transport.close()
                    return
        except Refused as refused:
            self._transport.write(answer(None, refused.status, f"{refused}\n".encode()))
            self._transport.close()
            return
        self._answering = None
        self._transport.resume_reading()

    async def _page(self, request: Request) -> tuple[HTTPStatus, bytes, str]:
        if request.method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PAGES, PLAIN
        if request.name == b"metrics":
            openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
            parts = []
            for part in render(await collect(self._listener), openmetrics=openmetrics):
                parts.append(part)
                await asyncio.sleep(0)  # jobs go on
            return HTTPStatus.OK, b"".join(parts), OPENMETRICS if openmetrics else TEXT
        if request.name == b"healthz":
            why = problem(self._listener)
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            return status, f"{why or 'ok'}\n".encode(), PLAIN
        return HTTPStatus.NOT_FOUND, PAGES, PLAIN
