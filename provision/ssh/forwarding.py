"""A socket of this machine that leads to one that a host can reach, as ssh -L makes it."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

from provision.errors import ToolkitError
from provision.inventory.host import Host
from provision.ssh.connection import SSHConnection, connect

LOOPBACK = "127.0.0.1"
CHUNK_SIZE = 1 << 16


class ByteChannel(Protocol):
    """A connection, as a socket or a channel of paramiko is one. Raises OSError or EOFError."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


OpenChannel = Callable[[], ByteChannel]
"""Opens a channel to the place. Raises ToolkitError."""


class LocalForward:
    """Who connects to the ``listening`` socket is connected to the place, until it is closed.

    If the place cannot be reached, the connection is closed, and ``problem`` says why.
    """

    def __init__(self, open_channel: OpenChannel, listening: socket.socket) -> None:
        self.problem = ""
        self._open_channel = open_channel
        self._opening = Lock()
        self._listening = listening
        Thread(target=self._accept_all, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections; those that are open stay until their ends close them."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or the thread that accepts goes on
        self._listening.close()

    def _accept_all(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listening.accept()
                Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client:
            try:
                with self._opening:
                    channel = self._open_channel()
                self.problem = ""
            except ToolkitError as error:
                self.problem = str(error)
                return
            try:
                Thread(target=_copy, args=(client, channel), daemon=True).start()
                _copy(channel, client)
            finally:
                channel.close()


@contextmanager
def forward_to(
    host: Host, address: str, port: int, listening: socket.socket
) -> Iterator[LocalForward]:
    """Meanwhile a socket of this machine leads to a place which ``host`` can reach.

    It is connected to when it is first needed, and again when the connection was lost.
    """
    connections: list[SSHConnection] = []

    def open_channel() -> ByteChannel:
        if not (connections and connections[-1].is_alive):
            connections.append(connect(host))
        return connections[-1].open_forward(address, port)

    forward = LocalForward(open_channel, listening)
    try:
        yield forward
    finally:
        forward.close()
        for connection in connections:
            connection.close()


def listen_unix(path: Path) -> socket.socket:
    """A Unix socket that listens, and that only its owner may connect to."""
    listening = socket.socket(socket.AF_UNIX)
    usual = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(usual)
    listening.listen()
    return listening


def _copy(source: ByteChannel, to: ByteChannel) -> None:
    """Until the source ends; then the other side is told so."""
    with suppress(OSError, EOFError):
        while piece := source.recv(CHUNK_SIZE):
            to.sendall(piece)
    with suppress(OSError, EOFError):
        to.shutdown(socket.SHUT_WR)
