"""What SSH runs over: a socket, or a channel through a jump host.

It breaks when nothing comes for too long, on every system and through every jump host: a TCP
socket by itself notices a dead peer late, and one behind a jump host never.
"""

import socket
from typing import TYPE_CHECKING, Any

from provision.failures import CONNECT, LOGIN
from provision.route import Stop

if TYPE_CHECKING:
    import paramiko

KEEPALIVE = 5  # seconds until a sign of life is asked for
DEAD = 10.0  # seconds more of silence, and the peer is gone


class Line:
    """As paramiko uses a socket.

    Silence is counted in what paramiko waits at once: a laptop that slept was not waiting.
    """

    def __init__(self, line: Any) -> None:
        self._line = line
        self._wait = self._silence = 0.0  # seconds

    def settimeout(self, seconds: float) -> None:
        self._wait = seconds
        self._line.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        try:
            piece: bytes = self._line.recv(size)
        except TimeoutError:
            self._silence += self._wait
            if self._silence > KEEPALIVE + DEAD:
                raise EOFError from None
            raise
        self._silence = 0.0
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)


def dial(stop: Stop, gateway: "paramiko.Transport | None") -> Any:
    """A line to a machine, through a gateway's connection or straight."""
    if gateway is not None:
        place = (stop.address, stop.port)
        return Line(gateway.open_channel("direct-tcpip", place, ("", 0), timeout=LOGIN))
    line = socket.create_connection((stop.address, stop.port), CONNECT)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each exec waits 43 ms
    return Line(line)


def keep_alive(transport: "paramiko.Transport") -> None:
    """Ask for a sign of life whenever nothing was said for a while."""
    import paramiko

    def ask() -> None:
        question = paramiko.Message()
        question.add_byte(paramiko.common.cMSG_GLOBAL_REQUEST)
        question.add_string("keepalive@openssh.com")
        question.add_boolean(True)  # paramiko's own set_keepalive wants no answer
        transport._send_user_message(question)  # type: ignore[attr-defined]  # has no public name

    transport.packetizer.set_keepalive(KEEPALIVE, ask)
