"""Connecting to a job server with asyncio; its own module, because importing asyncio is slow."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from gearman_py.net import keepalive
from gearman_py.net.servers import ServerAddress
from gearman_py.net.tls import fresh_context

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def open_connection(make: Callable[[], P], server: ServerAddress) -> P:
    """A connected protocol on the running event loop. Raises OSError."""
    loop = asyncio.get_running_loop()
    if server.path is None:
        context = fresh_context(server.tls) if server.tls else None
        transport, protocol = await loop.create_connection(
            make, server.host, server.port, ssl=context
        )
        keepalive.watch(transport.get_extra_info("socket"))
        _check_alive(loop, transport)
    else:
        _, protocol = await loop.create_unix_connection(make, server.path)
    return protocol


def _check_alive(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    """Abort a connection whose peer is gone; see :mod:`gearman_py.net.keepalive`."""
    if transport.is_closing():
        return
    if keepalive.peer_gone(transport.get_extra_info("socket")):
        transport.abort()
    else:
        loop.call_later(keepalive.INTERVAL, _check_alive, loop, transport)


def abort_connection(transport: asyncio.WriteTransport) -> None:
    """Close it at once, also if it has ended."""
    with contextlib.suppress(AttributeError):  # of TLS that has ended, before Python 3.11.3
        transport.abort()
