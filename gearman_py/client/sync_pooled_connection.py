"""A socket of the blocking client, and the session on it."""

import select
import socket
from struct import Struct
from threading import Lock

from gearman_py.client.session import ClientSession
from gearman_py.net import keepalive
from gearman_py.net.servers import why_not

_READ_SIZE = 256 * 1024
READ_INTERVAL = 1  # second: how long a read blocks before the deadline is checked


class PooledConnection:
    """The lock of the pool guards the session, not the socket."""

    def __init__(self, connection: socket.socket, session: ClientSession) -> None:
        self.socket = connection
        self.socket.setblocking(True)
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, Struct("@ll").pack(READ_INTERVAL, 0)
        )
        self.fd = connection.fileno()
        self.session = session
        self._received: list[bytes | OSError] = []
        self._least = 1
        self.writing = Lock()  # keeps bytes in the order in which the session expects answers

    def has_unread(self) -> bool:
        """Whether as many bytes as are awaited, or the end of the connection, can be read."""
        poll = select.poll()  # one of its own: threads must not share it
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def await_bytes(self, least: int) -> None:
        """Have blocking reads wait for at least ``least`` bytes, or READ_INTERVAL."""
        if least != self._least:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least

    def read_available(self, flags: int = socket.MSG_DONTWAIT) -> None:
        """Read the bytes that have arrived, for feed_session(); with ``flags=0``, wait for some."""
        try:
            # Read and kept by one call of C: ^C comes before or after it.
            self._received.extend(map(self.socket.recv, (_READ_SIZE,), (flags,)))
        except BlockingIOError:
            pass
        except OSError as error:
            self._received.append(error)

    def feed_session(self) -> None:
        """Pass to the session what was read; without any, notice that the server is gone."""
        received, self._received = self._received, []
        if self.session.error is not None:
            return
        try:
            for data in received:
                if not data:
                    self.session.lose_connection("it closed the connection")
                elif isinstance(data, bytes):
                    self.session.receive_data(data)
                else:
                    self.session.lose_connection(why_not(data))
        except BaseException:  # ^C: part of a packet may have been processed
            self.session.lose_connection("interrupted while it was read from")
            raise
        if not received and keepalive.peer_gone(self.socket):
            self.session.lose_connection("it does not answer")
