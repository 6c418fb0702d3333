"""A slot's blocking connection to one server, and the session on it."""

import socket
from struct import Struct
from threading import Lock

from gearman_py.errors import ConnectionLost, ProtocolError
from gearman_py.net import keepalive
from gearman_py.net.servers import ServerAddress
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import WorkerSession, log_refusal_once

# Seconds for a server to answer a grab or to accept bytes; after that it counts as dead.
ANSWER_TIMEOUT = 30
_CLOSE_TIMEOUT = 2.0  # seconds for the server to close once everything was sent
_READ_SIZE = 2**16
_TIMEVAL = Struct("@ll")


class SyncConnection:
    """``fd`` is its file descriptor, for polling. All methods raise OSError or GearmanError."""

    def __init__(
        self, server: ServerAddress, connection: socket.socket, session: WorkerSession
    ) -> None:
        self.server = str(server)
        self.session = session
        self.fd = connection.fileno()
        self.asleep_since = 0.0
        self._socket = connection
        # The kernel's timeouts: Python's own cost an additional system call each time.
        self._socket.setblocking(True)
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, limit, _TIMEVAL.pack(ANSWER_TIMEOUT, 0))
        self._writing = Lock()  # a function may send from any thread

    def flush(self) -> None:
        """Write what the session has queued: one write, however many packets."""
        with self._writing:
            self._write_bytes(self.session.take_output())

    def send_update(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        """Send an update of the running job."""
        with self._writing:
            self.session.send_update(handle, packet, *arguments)
            self._write_bytes(self.session.take_output())

    def _write_bytes(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise ConnectionLost(
                self.server, f"it accepted no bytes for {ANSWER_TIMEOUT} s"
            ) from None

    def read_packets(self) -> None:
        """Wait for bytes, and pass them to the session."""
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            raise ConnectionLost(self.server, f"no answer for {ANSWER_TIMEOUT} s") from None
        if not data:
            raise ConnectionLost(self.server, "it closed the connection")
        self.session.receive_data(data)
        if self.session.fault is not None:
            raise ProtocolError(f"{self.server} does not speak Gearman: {self.session.fault}")
        if self.session.refusal:
            log_refusal_once(self.server, self.session.refusal)
            self.session.refusal = ""
            self.flush()

    def check_alive(self) -> None:
        """Raise ConnectionLost if the server is gone."""
        if keepalive.peer_gone(self._socket):
            raise ConnectionLost(self.server, "it does not answer")

    def close_gracefully(self) -> None:
        """Shut down the sending side and let the server close: then everything has arrived."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_CLOSE_TIMEOUT)
            while self._socket.recv(_READ_SIZE):
                pass
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def shut_down(self) -> None:
        """Shut it down now, from any thread; this also ends a read or write in progress."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
