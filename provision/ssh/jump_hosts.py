"""Jump hosts, shared: whoever goes the same way goes through one connection.

It is opened by the first and closed with the last. What the first meets while opening it, those
who wait for it meet as well, so a dead jump host costs one wait and not one a host.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar

from provision.ssh.route import Route


class GatewayLink(Protocol):
    """A connection that others can go through."""

    @property
    def is_alive(self) -> bool: ...

    def close(self) -> None: ...


AnyGatewayLink = TypeVar("AnyGatewayLink", bound=GatewayLink)


class Gateway(Generic[AnyGatewayLink]):
    """The end of a way, held by those who go through it."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.users = 0
        self._opened: Future[AnyGatewayLink] = Future()

    def open_with(self, opener: Callable[[Route], AnyGatewayLink]) -> None:
        try:
            self._opened.set_result(opener(self.route))
        except BaseException as error:
            self._opened.set_exception(error)

    def wait_open(self) -> None:
        """Until it is open, or could not be opened."""
        self._opened.exception()

    @property
    def link(self) -> AnyGatewayLink:
        """The connection, when it is open; raises what prevented it."""
        return self._opened.result()

    @property
    def is_usable(self) -> bool:
        """Open, or being opened; one that failed serves as long as someone is told so."""
        if not self._opened.done() or self._opened.exception() is not None:
            return True
        return self._opened.result().is_alive

    def close(self) -> None:
        if self._opened.exception() is None:
            self._opened.result().close()


class Gateways(Generic[AnyGatewayLink]):
    """Those that are open now. ``opener`` opens one, or raises."""

    def __init__(self, opener: Callable[[Route], AnyGatewayLink]) -> None:
        self._opener = opener
        self._lock = Lock()
        self._gateways: dict[Route, Gateway[AnyGatewayLink]] = {}

    def enter_gateway(self, route: Route) -> Gateway[AnyGatewayLink]:
        """The gateway at the end of a way. To be left again, also when it could not be opened."""
        with self._lock:
            found = self._gateways.get(route)
            new = found is None or not found.is_usable
            gateway = Gateway[AnyGatewayLink](route) if found is None or new else found
            self._gateways[route] = gateway
            gateway.users += 1
        if new:
            gateway.open_with(self._opener)
        return gateway

    def hold_again(self, gateway: Gateway[AnyGatewayLink]) -> None:
        """Hold one more time what is held already."""
        with self._lock:
            gateway.users += 1

    def leave_gateway(self, gateway: Gateway[AnyGatewayLink]) -> None:
        with self._lock:
            gateway.users -= 1
            last = not gateway.users
            if last and self._gateways.get(gateway.route) is gateway:
                del self._gateways[gateway.route]
        if last:
            gateway.close()
