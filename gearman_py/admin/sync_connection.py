"""The connection of an AdminClient in one process."""

import socket
from threading import RLock
from time import monotonic

from gearman_py.admin.answers import AnswerReader
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress

_READ_SIZE = 2**16


class AdminConnection:
    """``turn`` is held by the thread that waits for an answer."""

    def __init__(self) -> None:
        self.turn = RLock()
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""
        return self._socket is not None

    def open(self, server: ServerAddress, timeout: float) -> None:
        """Connect within ``timeout`` seconds. Raises OSError."""
        self._socket = connect(server, timeout)
        self._answers = AnswerReader()

    def exchange(self, command: str, timeout: float, *, listing: bool) -> list[str]:
        """Send a command and return the lines of its answer. Raises OSError."""
        assert self._socket is not None  # noqa: S101  for mypy: the caller has opened it
        deadline = monotonic() + timeout
        self._socket.settimeout(timeout)
        self._socket.sendall(command.encode() + b"\r\n")
        while (answer := self._answers.next_answer(listing=listing)) is None:
            self._socket.settimeout(max(0.001, deadline - monotonic()))
            if not (data := self._socket.recv(_READ_SIZE)):
                raise ConnectionResetError("it closed the connection")
            self._answers.receive_data(data)
        return answer

    def close(self) -> None:
        """Close it; it may be opened again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    abandon = close  # in a forked child, this closes its copy alone
