"""gearman-worker --metrics-listen: GET /metrics for Prometheus, GET /healthz for probes."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from gearman_py.net.servers import ServerAddress, why_not
from gearman_py.protocol.http import Reader, Refused, Request, answer
from gearman_py.worker.metrics import WorkerMetrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
METRICS_PORT = 9419  # if none is given
PLAIN = "text/plain; charset=utf-8"
PAGES = b"GET /metrics or /healthz\n"
MAX_CONNECTIONS = 16
READ_TIMEOUT = 60.0  # seconds for a request to arrive, or its response to be read
BIND_INTERVAL = 0.2  # seconds between two attempts to listen
BIND_PATIENCE = 5.0  # seconds until it is told that it fails: a worker before may have the address

_log = logging.getLogger("gearman_py.worker")


class MetricsListener:
    """Answers at an address while ``serve`` runs; why it is not healthy is told by ``problem``."""

    def __init__(
        self, address: ServerAddress, metrics: WorkerMetrics, problem: Callable[[], str]
    ) -> None:
        self._address = address
        self._metrics = metrics
        self._problem = problem
        self._connections = 0

    async def serve(self) -> None:
        """Answer until cancelled; an address in use is tried again until it is free."""
        server = await self._listen()
        async with server:
            await server.serve_forever()

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        told_at = loop.time() + BIND_PATIENCE
        while True:
            try:
                return await asyncio.start_server(
                    self._answer_all, self._address.host, self._address.port
                )
            except OSError as error:
                if loop.time() > told_at:
                    told_at = float("inf")
                    _log.error("metrics cannot be served at %s: %s", self._address, why_not(error))
            await asyncio.sleep(BIND_INTERVAL)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass  # it left, or says nothing
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unread, keeps_alive = Reader(max_body=0), True
        while keeps_alive:
            async with asyncio.timeout(READ_TIMEOUT):
                try:
                    while (request := unread.next()) is None:
                        if not (data := await reader.read(4096)):
                            return None
                        unread.feed(data)
                except Refused as refused:
                    writer.write(answer(None, refused.status, f"{refused}\n".encode()))
                    return await writer.drain()
                keeps_alive = request.keeps_alive
                status, body, kind = await self._find(request)
                writer.write(answer(request, status, body, Content_Type=kind))
                await writer.drain()
        return None

    async def _find(self, request: Request) -> tuple[HTTPStatus, bytes, str]:
        if request.method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PAGES, PLAIN
        if request.name == b"metrics":
            return HTTPStatus.OK, await asyncio.to_thread(self._metrics.render), TEXT
        if request.name == b"healthz":
            why = self._problem()
            status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
            return status, f"{why or 'ok'}\n".encode(), PLAIN
        return HTTPStatus.NOT_FOUND, PAGES, PLAIN
