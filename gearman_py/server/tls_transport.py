"""TLS on a non-blocking socket, as an asyncio transport.

OpenSSL reads from and writes to the socket itself. The transports of uvloop and asyncio encrypt
into memory instead: a connection then costs 42 KB rather than 26, and a result that its client has
not read costs twice its size.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from fcntl import ioctl
from functools import partial
from termios import FIONREAD
from typing import Any

from gearman_py.server.admission import Handshakes

RECORD = 2**14  # bytes: the most that one record of TLS holds
# Records that are read, or written, until others are served.
READ_RECORDS = 16
WRITE_RECORDS = 64
# How long the peer of a connection that we have ended may take to end it too (seconds).
LINGER_LIMIT = 5.0
ZERO = bytes(4)  # an int
CLOSED = b"\7"  # TCP_CLOSE: it was reset, or timed out
NOTHING: deque[memoryview] = deque(maxlen=0)  # a deque takes 600 bytes


async def shake_hands(
    loop: asyncio.AbstractEventLoop, connected: ssl.SSLSocket, handshakes: Handshakes
) -> None:
    """Do the handshake; in a turn of the loop, one of the handshakes takes one step.

    Raises OSError, of which ssl.SSLError is one.
    """
    number = connected.fileno()
    while True:
        try:
            async with handshakes.turn:
                try:
                    return connected.do_handshake()
                finally:
                    await asyncio.sleep(0)
        except ssl.SSLWantReadError:
            watch: Callable[..., Any] = loop.add_reader
            ignore: Callable[..., Any] = loop.remove_reader
        except ssl.SSLWantWriteError:
            watch, ignore = loop.add_writer, loop.remove_writer
        ready = asyncio.Event()
        watch(number, ready.set)
        try:
            with handshakes.waiting():
                await ready.wait()
        finally:
            ignore(number)


class TLSTransport(asyncio.Transport):
    """A connection whose handshake is done. Its peer may not renegotiate."""

    __slots__ = (
        "_address",
        "_at_end",
        "_closing",
        "_full",
        "_high",
        "_linger",
        "_loop",
        "_number",
        "_protocol",
        "_reading",
        "_socket",
        "_unsent",
        "_unsent_size",
        "_writing",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connected: ssl.SSLSocket,
        address: tuple[Any, ...],
        protocol: asyncio.Protocol,
    ) -> None:
        self._loop, self._socket, self._protocol = loop, connected, protocol
        self._address = address
        self._number = connected.fileno()
        self._unsent = NOTHING
        self._unsent_size = 0  # bytes
        self._high = 2**16
        self._full = False  # the protocol was told to pause
        self._reading = self._writing = False  # whether the event loop watches for it
        self._at_end = False  # the peer sends no more
        self._closing = False  # nothing more is accepted; what is unsent is still to be sent
        self._linger: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    def move_to(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        """Go on in another event loop; the one before may not run any more."""
        self._loop, self._protocol = loop, protocol
        self._reading = self._writing = self._full = False
        self._high = 2**16
        protocol.connection_made(self)
        self._watch_writing(bool(self._unsent))
        self._check_fullness()
        self.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "socket" | "ssl_object":
                return self._socket
            case "peername":
                return self._address
        return default

    def is_closing(self) -> bool:
        return self._closing

    # Reading.

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._number)

    def resume_reading(self) -> None:
        if self._reading or self._closing:
            return
        self._reading = True
        self._loop.add_reader(self._number, self._read_ready)
        if self._at_end:
            self._loop.call_soon(self._end_input)

    def _read_ready(self) -> None:
        records: list[bytes] = []
        error = None
        try:
            while len(records) < READ_RECORDS:
                if not (record := self._socket.read(RECORD)):
                    self._at_end = True
                    break
                records.append(record)
                # The end is not read before all that came is handled: OpenSSL writes nothing then.
                if len(record) < RECORD or ioctl(self._number, FIONREAD, ZERO) == ZERO:
                    break
        except ssl.SSLWantReadError:
            pass
        except OSError as caught:
            error = caught
        if records and not self._closing:
            if self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == CLOSED:
                self._loop.call_soon(self._read_on)  # libuv tells only once of a reset
            self._protocol.data_received(records[0] if len(records) == 1 else b"".join(records))
        if error is not None:
            self._close_now(error)
        elif self._at_end:
            self._end_input()

    def _read_on(self) -> None:
        if self._reading and not self._closing:
            self._read_ready()

    def _end_input(self) -> None:
        """The peer sends no more. Who does not read just now has not got all that it sent."""
        if self._reading and not self._closing:
            self._protocol.eof_received()
            self.close()

    # Writing.

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 2**16 if high is None else high
        self._check_fullness()

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    def can_write_eof(self) -> bool:
        return False  # `close` hears the peer out by itself

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._unsent or self._closing or not 0 < len(data) <= RECORD:
            return self.writelines((data,))
        try:
            self._socket.write(data)  # one record: all of it or nothing
        except ssl.SSLWantWriteError:
            self.writelines((data,))
        except OSError as error:
            self._close_now(error)
        return None

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._closing:
            return
        if self._unsent is NOTHING:
            self._unsent = deque()
        for piece in pieces:
            if piece:
                self._unsent.append(memoryview(piece))
                self._unsent_size += len(piece)
        if not self._writing:
            self._write_ready()

    def _write_ready(self) -> None:
        unsent = self._unsent
        try:
            for _ in range(WRITE_RECORDS):
                if not unsent:
                    break
                # OpenSSL writes one record of it; it must be offered the same again if not.
                sent = self._socket.write(unsent[0])
                self._unsent_size -= sent
                if sent == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][sent:]
        except ssl.SSLWantWriteError:
            pass
        except OSError as error:
            return self._close_now(error)
        if not unsent:
            self._unsent = NOTHING
        self._watch_writing(bool(unsent))
        self._check_fullness()
        if self._closing and not unsent:
            self._end_output()
        return None

    def _watch_writing(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._number, self._write_ready)
            else:
                self._loop.remove_writer(self._number)

    def _check_fullness(self) -> None:
        """Have the protocol pause, or go on, as the peer reads what is written."""
        if not self._full and self._unsent_size > self._high:
            self._full = True
            self._protocol.pause_writing()
        elif self._full and self._unsent_size <= self._high // 4 and not self._closing:
            self._full = False
            self._protocol.resume_writing()

    # The end.

    def close(self) -> None:
        """Send what is unsent, end the connection, and hear the peer out: closing a socket on
        unread bytes resets the connection, and what was on its way to the peer is lost."""
        if not self._closing:
            self._closing = True
            self.pause_reading()
            if not self._unsent:
                self._end_output()

    def abort(self) -> None:
        """Close it without sending what is unsent."""
        self._close_now(None)

    def _end_output(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.unwrap()  # it says that this is the end, and does not wait for an answer
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        if self._at_end:
            return self._close_now(None)
        self._linger = self._loop.call_later(LINGER_LIMIT, self.abort)
        self._loop.add_reader(self._number, self._hear_out)
        return None

    def _hear_out(self) -> None:
        """Drop what still comes after our end; it is not decrypted any more."""
        try:
            if self._socket.recv(RECORD):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close_now(None)

    def _close_now(self, error: Exception | None) -> None:
        if self._number < 0:
            return
        self._closing = True
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)
        self._number = -1
        self._unsent, self._unsent_size = NOTHING, 0
        if self._linger is not None:
            self._linger.cancel()
        self._loop.call_soon(partial(self._forget_peer, error))

    def _forget_peer(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self._socket.close()
