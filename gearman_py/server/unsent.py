"""What the kernel has not taken or passed on yet: transports do not tell."""

import fcntl
import socket
import termios
from array import array
from collections import deque
from collections.abc import Iterable


class Unsent:
    """The last pieces that were written to a transport, from the first one that it still holds."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0  # bytes

    def add(self, pieces: Iterable[bytes], held: int) -> None:
        """Pieces were written, and the transport now holds this number of bytes."""
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece)
        while self._pieces and self._size - len(self._pieces[0]) >= held:
            self._size -= len(self._pieces.popleft())

    def last(self, held: int) -> bytes:
        """The bytes that the transport holds, given their number."""
        return b"".join(self._pieces)[-held:] if held else b""


def unacknowledged_bytes(connected: socket.socket) -> int:
    """How many bytes the kernel holds that the peer's has not acknowledged (tcp(7), SIOCOUTQ)."""
    held = array("i", [0])
    fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, held)
    return held[0]


def has_unread(connected: socket.socket) -> bool:
    """Whether bytes of the peer have arrived that were not read yet (tcp(7), SIOCINQ)."""
    arrived = array("i", [0])
    fcntl.ioctl(connected.fileno(), termios.FIONREAD, arrived)
    return arrived[0] > 0
