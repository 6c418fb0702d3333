"""Noticing that a peer is gone although its connection was never closed.

A host that loses power or its network does not close its connections, and whoever waits for it
would wait indefinitely. TCP keepalive probes a silent peer, but not while sent data is
unacknowledged (tcp(7)); Linux then takes a quarter of an hour to give up. TCP_USER_TIMEOUT would
limit that, but since Linux 5.11 it also ends a connection to a peer that answers but has had no
room for the data for that long: a slow reader or a busy server. So code that waits calls
:func:`peer_gone` from time to time.
"""

import socket
from struct import Struct
from typing import Protocol

# Of struct tcp_info (linux/tcp.h): retransmits, probes, milliseconds since the last
# acknowledgement.
_INFORMATION = Struct("2xBB4x48xI")
IDLE, INTERVAL, COUNT = 60, 10, 3  # 90 seconds until a connection is given up


class Tunable(Protocol):
    """A socket, or the substitute that an event loop provides."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def watch(
    connection: Tunable, idle: int = IDLE, interval: int = INTERVAL, count: int = COUNT
) -> None:
    """Turn on keepalive for a TCP connection, or for those that a listening socket accepts.

    After ``idle`` seconds of silence the peer is probed ``count`` times, ``interval`` seconds
    apart.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, idle),
        (socket.TCP_KEEPINTVL, interval),
        (socket.TCP_KEEPCNT, count),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def peer_gone(connection: socket.socket) -> bool:
    """Whether the peer of a TCP connection no longer acknowledges what is sent."""
    if connection.family == socket.AF_UNIX:
        return False
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFORMATION.size)
        if len(information) < _INFORMATION.size:  # of an emulated kernel, such as QEMU's
            return False
        retransmits, probes, last_answer = _INFORMATION.unpack(information)
        # A peer without room is probed every two minutes, and answers at once.
        return bool(retransmits + probes > 1 and last_answer > _max_silence(connection))
    except OSError:
        return False  # it has ended, which will be reported


def _max_silence(connection: socket.socket) -> int:
    """How long the peer may be silent, in milliseconds."""
    idle, interval, count = (
        connection.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    return int(idle + interval * count) * 1000
