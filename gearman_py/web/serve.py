"""Serves the application with uvicorn, on a socket that is opened first."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from gearman_py import sdnotify
from gearman_py.net.renewal import watch_files
from gearman_py.net.servers import why_not
from gearman_py.web.http_protocol import TimedProtocol

MAX_REQUESTS = 200  # at once; more get 503
SHUTDOWN_TIMEOUT = 5  # seconds for requests to end

log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on, or the certificate cannot be used."""


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    tls: tuple[str, str] | None,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT. ``tls``: certificate and key. Raises ListenError.

    ``on_listening`` is called once, as soon as connections are accepted.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(f"cannot listen on {host} port {port}: {why_not(error)}") from error
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # access.py reads them, from proxies that it trusts
        http=TimedProtocol,
        limit_concurrency=MAX_REQUESTS,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    with listening:
        try:
            config.load()
        except OSError as error:  # of ssl, too
            files = " and ".join(tls or ())
            raise ListenError(f"{files}: {error.strerror or error}") from error
        place = f"[{host}]" if ":" in host else host
        log.info("serves %s://%s:%d", "https" if tls else "http", place, listening.getsockname()[1])
        on_listening()
        async with _watched_certificate(config.ssl, tls):
            await _Server(config).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Tells systemd when it serves, and when it stops."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sdnotify.notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        sdnotify.notify("STOPPING=1")
        await super().shutdown(sockets)


@asynccontextmanager
async def _watched_certificate(
    context: ssl.SSLContext | None, files: tuple[str, str] | None
) -> AsyncIterator[None]:
    """Meanwhile reload the certificate whenever it is renewed."""
    if context is None or files is None:
        yield
        return
    watching = asyncio.create_task(watch_files(files, partial(_reload_certificate, context, files)))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def _reload_certificate(context: ssl.SSLContext, files: tuple[str, str]) -> bool:
    try:
        context.load_cert_chain(*files)
    except OSError as error:  # of ssl, too
        log.error("keeping the certificate in use: %s: %s", files[0], error.strerror or error)
        return False
    log.info("new connections use the certificate in %s", files[0])
    return True
