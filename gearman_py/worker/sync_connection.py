"""A slot's blocking connection to one server, and the session on it."""

import socket
from struct import Struct
from threading import Lock

from gearman_py.errors import ConnectionLost, ProtocolError
from gearman_py.net import keepalive
from gearman_py.net.servers import Server
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import Session, say_once

# Seconds for a server to answer a grab or to take bytes; one that does not is as good as gone.
PATIENCE = 30
_FAREWELL = 2.0  # seconds for the server to close after we have said all we had to say
_READ_SIZE = 2**16
_TIMEVAL = Struct("@ll")


class Line:
    """``fd`` is for polling. What goes wrong is an OSError or a GearmanError."""

    def __init__(self, server: Server, connection: socket.socket, session: Session) -> None:
        self.server = str(server)
        self.session = session
        self.fd = connection.fileno()
        self.asleep_since = 0.0
        self._socket = connection
        # Limits that the kernel keeps: Python's own cost a system call more each time.
        self._socket.setblocking(True)
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, limit, _TIMEVAL.pack(PATIENCE, 0))
        self._writing = Lock()  # a function may send from any thread

    def flush(self) -> None:
        """Write what the session has queued: one write, however many packets."""
        with self._writing:
            self._write(self.session.take())

    def send(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        """Say something of the job in hand."""
        with self._writing:
            self.session.send(handle, packet, *arguments)
            self._write(self.session.take())

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise ConnectionLost(self.server, f"it took no bytes for {PATIENCE} s") from None

    def read(self) -> None:
        """Wait for bytes, and let the session have them."""
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            raise ConnectionLost(self.server, f"no answer for {PATIENCE} s") from None
        if not data:
            raise ConnectionLost(self.server, "it closed the connection")
        self.session.receive(data)
        if self.session.fault is not None:
            raise ProtocolError(f"{self.server} does not speak Gearman: {self.session.fault}")
        if self.session.refused:
            say_once(self.server, self.session.refused)
            self.session.refused = ""
            self.flush()

    def look(self) -> None:
        """Raise ConnectionLost when the server is gone."""
        if keepalive.peer_gone(self._socket):
            raise ConnectionLost(self.server, "it does not answer")

    def leave(self) -> None:
        """Say that we are done and let the server hang up: what we wrote has then arrived."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_FAREWELL)
            while self._socket.recv(_READ_SIZE):
                pass
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def cut(self) -> None:
        """End it now, from any thread; a read or write under way ends too."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
