"""Jump hosts, shared: whoever goes the same way goes through one connection.

It is opened by the first and closed with the last. What the first meets while opening it, those
who wait for it meet as well, so a dead jump host costs one wait and not one a host.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar

from provision.ssh.route import Route


class Link(Protocol):
    """A connection that others can go through."""

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


AnyLink = TypeVar("AnyLink", bound=Link)


class Gateway(Generic[AnyLink]):
    """The end of a way, held by those who go through it."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.users = 0
        self._opened: Future[AnyLink] = Future()

    def open(self, opener: Callable[[Route], AnyLink]) -> None:
        try:
            self._opened.set_result(opener(self.route))
        except BaseException as error:
            self._opened.set_exception(error)

    def wait(self) -> None:
        """Until it is open, or could not be opened."""
        self._opened.exception()

    @property
    def link(self) -> AnyLink:
        """The connection, when it is open; raises what prevented it."""
        return self._opened.result()

    @property
    def usable(self) -> bool:
        """Open, or being opened; one that failed serves as long as somebody is told so."""
        if not self._opened.done() or self._opened.exception() is not None:
            return True
        return self._opened.result().alive

    def close(self) -> None:
        if self._opened.exception() is None:
            self._opened.result().close()


class Gateways(Generic[AnyLink]):
    """Those that are open now. ``opener`` opens one, or raises."""

    def __init__(self, opener: Callable[[Route], AnyLink]) -> None:
        self._opener = opener
        self._lock = Lock()
        self._gateways: dict[Route, Gateway[AnyLink]] = {}

    def enter(self, route: Route) -> Gateway[AnyLink]:
        """The gateway at the end of a way. To be left again, also when it could not be opened."""
        with self._lock:
            found = self._gateways.get(route)
            new = found is None or not found.usable
            gateway = Gateway[AnyLink](route) if found is None or new else found
            self._gateways[route] = gateway
            gateway.users += 1
        if new:
            gateway.open(self._opener)
        return gateway

    def hold(self, gateway: Gateway[AnyLink]) -> None:
        """Hold one more time what is held already."""
        with self._lock:
            gateway.users += 1

    def leave(self, gateway: Gateway[AnyLink]) -> None:
        with self._lock:
            gateway.users -= 1
            last = not gateway.users
            if last and self._gateways.get(gateway.route) is gateway:
                del self._gateways[gateway.route]
        if last:
            gateway.close()
