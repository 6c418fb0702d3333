"""Connecting to a job server, by TCP or by a Unix socket."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from gearman_py.servers import Server

P = TypeVar("P", bound=asyncio.BaseProtocol)


def connect(server: Server, timeout: float | None) -> socket.socket:
    """A connected socket, within ``timeout`` seconds. Raises OSError (TimeoutError is one)."""
    if server.path is None:
        connection = socket.create_connection((server.host, server.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(server.path)
    except OSError:
        connection.close()
        raise
    return connection


async def open_connection(make: Callable[[], P], server: Server) -> P:
    """A connected protocol on the running event loop. Raises OSError."""
    loop = asyncio.get_running_loop()
    if server.path is None:
        _, protocol = await loop.create_connection(make, server.host, server.port)
    else:
        _, protocol = await loop.create_unix_connection(make, server.path)
    return protocol
