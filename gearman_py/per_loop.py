"""Objects that belong to one event loop: connections, locks, events."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class AsyncClosable(Protocol):
    """What an event loop can have."""

    async def close(self) -> None: ...


T = TypeVar("T", bound=AsyncClosable)


class PerLoop(Generic[T]):
    """One ``T`` for each event loop that uses it; loops may run in several threads.

    ``drop`` is called with the objects of closed loops, when another loop asks for its own.
    """

    def __init__(self, make: Callable[[], T], drop: Callable[[T], object]) -> None:
        self._make, self._drop = make, drop
        self._made: dict[asyncio.AbstractEventLoop, T] = {}
        self._latest: tuple[asyncio.AbstractEventLoop, T] | None = None
        self._lock = Lock()

    @property
    def here(self) -> T:
        """The object of the running event loop; made on first use."""
        loop, latest = asyncio.get_running_loop(), self._latest
        if latest is not None and latest[0] is loop:
            return latest[1]
        with self._lock:
            for closed in [other for other in self._made if other.is_closed()]:
                self._drop(self._made.pop(closed))
            made = self._made[loop] = self._made.get(loop) or self._make()
            self._latest = loop, made
        return made

    async def close(self) -> None:
        """Close the object of the running event loop, and have those of other loops closed."""
        here = asyncio.get_running_loop()
        with self._lock:
            others = [(loop, made) for loop, made in self._made.items() if loop is not here]
            for loop, _ in others:
                del self._made[loop]
        for loop, made in others:
            if loop.is_closed():
                self._drop(made)
            else:
                asyncio.run_coroutine_threadsafe(made.close(), loop)
        await self.here.close()


def at_shutdown(close: Callable[[], Awaitable[object]]) -> object:
    """Have ``close()`` awaited when the running event loop shuts down, as asyncio.run() does.

    It is, as long as the returned object is kept.
    """
    ending = _close_at_end(close)
    try:
        ending.__anext__().send(None)  # started: the loop closes it at shutdown
    except StopIteration:
        pass
    return ending


async def _close_at_end(close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await close()


def hang_up(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection whose event loop was closed without a shutdown."""
    peer = None if transport is None else transport.get_extra_info("socket")
    try:
        if peer is not None:
            peer.shutdown(socket.SHUT_RDWR)
    except (OSError, TypeError):
        pass  # it has ended; uvloop's sockets have no shutdown and end with their transport
