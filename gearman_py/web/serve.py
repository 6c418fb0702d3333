"""Serves the application with uvicorn, on a socket that is opened first."""

import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from gearman_py.net.servers import why_not

MAX_REQUESTS = 200  # at once; more get 503
SHUTDOWN_TIMEOUT = 5  # seconds for requests to end

log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on, or the certificate cannot be used."""


async def serve(app: ASGIApp, host: str, port: int, tls: tuple[str, str] | None) -> None:
    """Serve until SIGTERM or SIGINT. ``tls``: certificate and key. Raises ListenError."""
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
        await uvicorn.Server(config).serve(sockets=[listening])
