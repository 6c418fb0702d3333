"""TLS for blocking code: a plain socket, and a thread that moves its bytes through TLS.

The socket can be peeked, polled and shut down like any other, by several threads, which an SSL
object does not allow. Reading the end of the connection raises why TLS ended.
"""

import select
import socket
import ssl
from threading import Thread
from time import monotonic

from gearman_py.net import keepalive
from gearman_py.net.tls import REFUSED_AT_ONCE, TLS, fresh_context

READ_SIZE = 2**16
MAX_BUFFERED = 2**20  # bytes waiting for one side; while there are more, none are read
CLOSE_TIMEOUT = 10.0  # seconds for the server to read what was written before the close


class Tunnel(socket.socket):
    """Our end of the socket pair; the thread has the other."""

    def __init__(self, fileno: int, why: list[OSError]) -> None:
        super().__init__(fileno=fileno)
        self._why = why  # filled by the thread

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        if not data and self._why:
            raise self._why[0]
        return data


def open_tunnel(connection: socket.socket, tls: TLS, name: str) -> Tunnel:
    """Do the handshake on a connected socket, within its timeout, with the server ``name``.

    Raises OSError, or ValueError for a name that cannot be a host; the socket is closed then.
    """
    try:
        secured = fresh_context(tls).wrap_socket(connection, server_hostname=name)
    except BaseException:
        connection.close()
        raise
    ours, theirs = socket.socketpair()
    why: list[OSError] = []
    made = Tunnel(ours.detach(), why)
    made.settimeout(secured.gettimeout())
    pump = _TLSPump(secured, theirs, why)
    Thread(target=pump.run, daemon=True, name="gearman-tls").start()
    return made


class _TLSPump:
    def __init__(self, secured: ssl.SSLSocket, plain: socket.socket, why: list[OSError]) -> None:
        self._secured, self._plain, self._why = secured, plain, why
        self._inward, self._outward = bytearray(), bytearray()  # to us, to the server
        self._sent_all = False  # our side has sent everything
        self._received = self._received_all = False  # something, everything from the server
        self._closed = False  # close_notify was sent
        self._deadline: float | None = None  # after our end was closed: for the last bytes
        for one in (secured, plain):
            one.setblocking(False)

    def run(self) -> None:
        """Move bytes until one side has ended and its last bytes have been delivered."""
        with self._secured, self._plain:
            while not self._is_over():
                try:
                    self._move_bytes()
                except OSError as error:
                    self._why.append(error)
                    self._received_all, self._outward = True, bytearray()
            if not self._closed:
                self._send_close()

    def _is_over(self) -> bool:
        if self._deadline is not None:  # our side no longer reads
            return self._received_all or not self._outward or monotonic() > self._deadline
        return self._received_all and not self._inward

    def _move_bytes(self) -> None:
        """Wait until bytes can be moved, and move them."""
        poll = select.poll()
        reads = not self._received_all and len(self._inward) < MAX_BUFFERED
        if not self._received_all:
            poll.register(self._secured, self._poll_events(reads, bool(self._outward)))
        if self._deadline is None:
            takes = not self._sent_all and len(self._outward) < MAX_BUFFERED
            poll.register(self._plain, self._poll_events(takes, bool(self._inward)))
        waits = not (reads and self._secured.pending())
        seconds = 1 if self._deadline else keepalive.INTERVAL
        ready = dict(poll.poll(seconds * 1000 if waits else 0))
        if waits and not ready and keepalive.peer_gone(self._secured):
            raise TimeoutError("it does not answer")
        happened = ready.get(self._plain.fileno(), 0)
        if happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._read_plain(gone=not happened & select.POLLIN)
        if self._outward:
            self._write_secured()
        if self._sent_all and not self._outward and not self._closed:
            self._send_close()
        if reads and not self._received_all:
            self._read_secured()
        if self._inward and self._deadline is None:
            self._write_plain()

    @staticmethod
    def _poll_events(reads: bool, writes: bool) -> int:
        return (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)

    def _read_plain(self, *, gone: bool) -> None:
        if gone:
            self._deadline = monotonic() + CLOSE_TIMEOUT
            return
        data = self._plain.recv(READ_SIZE)
        self._outward += data
        self._sent_all = not data

    def _write_secured(self) -> None:
        try:
            while self._outward:
                del self._outward[: self._secured.send(bytes(self._outward[:READ_SIZE]))]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass

    def _read_secured(self) -> None:
        try:
            while len(self._inward) < MAX_BUFFERED:
                data = self._secured.recv(READ_SIZE)
                self._inward += data
                self._received = self._received or bool(data)
                if not data:
                    self._received_all = True
                    if not (self._received or self._sent_all):
                        self._why.append(ConnectionResetError(REFUSED_AT_ONCE))
                    return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    def _write_plain(self) -> None:
        try:
            while self._inward:
                del self._inward[: self._plain.send(self._inward[:READ_SIZE])]
        except BlockingIOError:
            pass
        except OSError:  # our end is closed
            self._deadline = monotonic() + CLOSE_TIMEOUT

    def _send_close(self) -> None:
        """Send close_notify to the server (RFC 8446, 6.1)."""
        self._closed = True
        try:
            self._secured.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # the server has not sent its own yet
        except (OSError, ValueError):
            pass  # the server is gone
        self._received_all = True
