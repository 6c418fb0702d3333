"""Noticing that the other end of a connection is gone when nothing says so.

A host that lost its power, or a cable that was pulled, ends no connection: whoever waits for it
waits for ever. Keepalive asks an end that is silent; the user timeout bounds how long what was
sent may stay unacknowledged, for which Linux by itself takes a quarter of an hour, and asks no
keepalive meanwhile (tcp(7)).
"""

import socket
from struct import Struct
from typing import Protocol

# The beginning of struct tcp_info (linux/tcp.h): retransmits, probes, and how many milliseconds
# ago something was acknowledged.
_INFORMATION = Struct("2xBB4x48xI")
IDLE, INTERVAL, COUNT = 60, 10, 3  # 90 seconds until a connection is given up


class Tunable(Protocol):
    """A socket, or what an event loop has in its place."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def watch(
    connection: Tunable, idle: int = IDLE, interval: int = INTERVAL, count: int = COUNT
) -> None:
    """Give a TCP connection up when its end does not answer; so do those that it accepts.

    ``idle`` seconds of silence are let pass, then it is asked ``count`` times every
    ``interval`` seconds.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, idle),
        (socket.TCP_KEEPINTVL, interval),
        (socket.TCP_KEEPCNT, count),
        (socket.TCP_USER_TIMEOUT, (idle + interval * count) * 1000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def bear(connection: socket.socket, *, stalled: bool) -> None:
    """Let the other end of a TCP connection be as slow as it likes to read, or no longer.

    Since Linux 5.11 the user timeout also ends a connection whose other end answers, but has had
    no room for what was sent for so long. While that is so, ask :func:`gone`.
    """
    if connection.family != socket.AF_UNIX:
        option = socket.TCP_USER_TIMEOUT
        connection.setsockopt(socket.IPPROTO_TCP, option, 0 if stalled else _silence(connection))


def gone(connection: socket.socket) -> bool:
    """Whether the other end of a TCP connection does not answer that what was sent has come."""
    if connection.family == socket.AF_UNIX:
        return False
    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFORMATION.size)
    retransmits, probes, last_answer = _INFORMATION.unpack(information)
    # Where there is no room, the kernel asks at most every two minutes, and is answered at once.
    return bool(retransmits + probes > 1 and last_answer > _silence(connection))


def _silence(connection: socket.socket) -> int:
    """How long the other end may be silent, in milliseconds."""
    idle, interval, count = (
        connection.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    return int(idle + interval * count) * 1000
