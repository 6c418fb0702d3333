"""Connecting to a job server on asyncio; by itself, as importing asyncio takes its time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gearman_py.servers import Server

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def open_connection(make: Callable[[], P], server: Server) -> P:
    """A connected protocol on the running event loop. Raises OSError."""
    loop = asyncio.get_running_loop()
    if server.path is None:
        _, protocol = await loop.create_connection(make, server.host, server.port)
    else:
        _, protocol = await loop.create_unix_connection(make, server.path)
    return protocol
