"""The admin socket of a host's job server, as a socket on this machine: by SSH, and by sudo there.

Who connects to it has the operator's rights, so it is in a folder that only the operator may enter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision.errors import ToolkitError
from provision.fleet.pool import start_on
from provision.inventory.host import Host
from provision.inventory.schedules import ADMIN_SOCKET
from provision.remote.handshake import AgentChannel
from provision.remote.session import agent_source
from provision.ssh.forwarding import LocalForward, listen_unix


class RelayChannel:
    """A connection to the admin socket, as bytes. Raises OSError when it is lost."""

    def __init__(self, channel: AgentChannel, said: bytes) -> None:
        self._channel = channel
        self._said = said

    def recv(self, size: int) -> bytes:
        if self._said:
            piece, self._said = self._said[:size], self._said[size:]
            return piece
        while True:
            try:
                return self._channel.receive(3600.0)
            except TimeoutError:
                continue  # nothing was asked
            except ToolkitError as error:
                raise OSError(str(error)) from error

    def sendall(self, data: bytes) -> None:
        try:
            self._channel.send(data)
        except ToolkitError as error:
            raise OSError(str(error)) from error

    def shutdown(self, how: int) -> None:
        """Those who ask close both directions at once."""
        self.close()

    def close(self) -> None:
        self._channel.close()


def open_relay(host: Host) -> RelayChannel:
    """Connect to the admin socket there. Raises :class:`~provision.errors.Unreachable`."""
    channel, said = start_on(host)
    source = agent_source("admin_relay")
    channel.send(b"%08x" % len(source) + source + f"{ADMIN_SOCKET}\n".encode())
    return RelayChannel(channel, said)


@contextmanager
def forward_admin_socket(host: Host, path: Path) -> Iterator[None]:
    """Meanwhile ``path`` is a socket that leads there, by a connection for each that is made to it.

    One that cannot be made is closed at once.
    """
    forward = LocalForward(lambda: open_relay(host), listen_unix(path))
    try:
        yield
    finally:
        forward.close()
