"""TLS for those who block: a plain socket, and a thread that carries its bytes through TLS.

Who holds the socket peeks, polls and shuts it down as any other, from several threads: what an
SSL object allows none of. Why TLS ended is raised where the end is read.
"""

import select
import socket
import ssl
from threading import Thread
from time import monotonic

from gearman_py.net import keepalive
from gearman_py.net.tls import TLS, TURNED_AWAY, fresh_context

PIECE = 2**16
ROOM = 2**20  # bytes that may wait for either side; until there is less, no more is read
FAREWELL = 10.0  # seconds for the server to take what was written before we closed


class Tunnel(socket.socket):
    """Our end; the thread has the other."""

    def __init__(self, fileno: int, why: list[OSError]) -> None:
        super().__init__(fileno=fileno)
        self._why = why  # the thread says why it ended

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        if not data and self._why:
            raise self._why[0]
        return data


def tunnel(connection: socket.socket, tls: TLS, name: str) -> Tunnel:
    """Shake hands on a connected socket, within its timeout, with the server called ``name``.

    Raises OSError; the socket is closed then.
    """
    try:
        secured = fresh_context(tls).wrap_socket(connection, server_hostname=name)
    except OSError:
        connection.close()
        raise
    ours, theirs = socket.socketpair()
    why: list[OSError] = []
    made = Tunnel(ours.detach(), why)
    made.settimeout(secured.gettimeout())
    carrier = _Carrier(secured, theirs, why)
    Thread(target=carrier.run, daemon=True, name="gearman-tls").start()
    return made


class _Carrier:
    def __init__(self, secured: ssl.SSLSocket, plain: socket.socket, why: list[OSError]) -> None:
        self._secured, self._plain, self._why = secured, plain, why
        self._inward, self._outward = bytearray(), bytearray()  # for us, for the server
        self._said_all = False  # nothing more will come from us
        self._heard = self._heard_all = False  # anything, nothing more, from the server
        self._parted = False  # it was told so
        self._until: float | None = None  # our end is closed: when the last words must be out
        for one in (secured, plain):
            one.setblocking(False)

    def run(self) -> None:
        """Until a side has ended, and what was said before has arrived."""
        with self._secured, self._plain:
            while not self._over():
                try:
                    self._once()
                except OSError as error:
                    self._why.append(error)
                    self._heard_all, self._outward = True, bytearray()
            if not self._parted:
                self._part()

    def _over(self) -> bool:
        if self._until is not None:  # nobody is there to be told anything
            return self._heard_all or not self._outward or monotonic() > self._until
        return self._heard_all and not self._inward

    def _once(self) -> None:
        """Wait until there is something to do, and do it."""
        poll = select.poll()
        reads = not self._heard_all and len(self._inward) < ROOM
        if not self._heard_all:
            poll.register(self._secured, self._events(reads, bool(self._outward)))
        if self._until is None:
            takes = not self._said_all and len(self._outward) < ROOM
            poll.register(self._plain, self._events(takes, bool(self._inward)))
        waits = not (reads and self._secured.pending())
        patience = 1 if self._until else keepalive.INTERVAL
        ready = dict(poll.poll(patience * 1000 if waits else 0))
        if waits and not ready and keepalive.gone(self._secured):
            raise TimeoutError("it does not answer")
        happened = ready.get(self._plain.fileno(), 0)
        if happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._read_plain(gone=not happened & select.POLLIN)
        if self._outward:
            self._write_secured()
        if self._said_all and not self._outward and not self._parted:
            self._part()
        if reads and not self._heard_all:
            self._read_secured()
        if self._inward and self._until is None:
            self._write_plain()

    @staticmethod
    def _events(reads: bool, writes: bool) -> int:
        return (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)

    def _read_plain(self, *, gone: bool) -> None:
        if gone:
            self._until = monotonic() + FAREWELL
            return
        data = self._plain.recv(PIECE)
        self._outward += data
        self._said_all = not data

    def _write_secured(self) -> None:
        try:
            while self._outward:
                del self._outward[: self._secured.send(bytes(self._outward[:PIECE]))]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass

    def _read_secured(self) -> None:
        try:
            while len(self._inward) < ROOM:
                data = self._secured.recv(PIECE)
                self._inward += data
                self._heard = self._heard or bool(data)
                if not data:
                    self._heard_all = True
                    if not (self._heard or self._said_all):
                        self._why.append(ConnectionResetError(TURNED_AWAY))
                    return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    def _write_plain(self) -> None:
        try:
            while self._inward:
                del self._inward[: self._plain.send(self._inward[:PIECE])]
        except BlockingIOError:
            pass
        except OSError:  # our end is closed
            self._until = monotonic() + FAREWELL

    def _part(self) -> None:
        """Tell the server that nothing follows (RFC 8446, 6.1)."""
        self._parted = True
        try:
            self._secured.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # it has not said the same yet
        except (OSError, ValueError):
            pass  # it is gone
        self._heard_all = True
