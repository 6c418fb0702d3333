"""Noticing that the other end of a connection is gone when nothing says so.

A host that lost its power, or a cable that was pulled, ends no connection: whoever waits for it
waits for ever. Keepalive asks an end that is silent, but not while something that was sent is
unacknowledged (tcp(7)); Linux by itself takes a quarter of an hour to give that up.
TCP_USER_TIMEOUT would bound it, but since Linux 5.11 it also ends a connection whose other end
answers and has had no room for what was sent for so long: a slow reader, or a server that is busy.
So who waits asks :func:`gone` now and then.
"""

import socket
from struct import Struct
from typing import Protocol

# Of struct tcp_info (linux/tcp.h): retransmits, probes, how many milliseconds ago something was
# acknowledged.
_INFORMATION = Struct("2xBB4x48xI")
IDLE, INTERVAL, COUNT = 60, 10, 3  # 90 seconds until a connection is given up


class Tunable(Protocol):
    """A socket, or what an event loop has in its place."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def watch(
    connection: Tunable, idle: int = IDLE, interval: int = INTERVAL, count: int = COUNT
) -> None:
    """Give a TCP connection up when its silent end does not answer; so do those that it accepts.

    ``idle`` seconds of silence are let pass, then it is asked ``count`` times every
    ``interval`` seconds.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, idle),
        (socket.TCP_KEEPINTVL, interval),
        (socket.TCP_KEEPCNT, count),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def gone(connection: socket.socket) -> bool:
    """Whether the other end of a TCP connection does not answer that what was sent has come."""
    if connection.family == socket.AF_UNIX:
        return False
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFORMATION.size)
        retransmits, probes, last_answer = _INFORMATION.unpack(information)
        # Where there is no room, the kernel asks every two minutes, and is answered at once.
        return bool(retransmits + probes > 1 and last_answer > _silence(connection))
    except OSError:
        return False  # it has ended already, and is about to be told of


def _silence(connection: socket.socket) -> int:
    """How long the other end may be silent, in milliseconds."""
    idle, interval, count = (
        connection.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    return int(idle + interval * count) * 1000
