"""Noticing that the other end of a connection is gone when nothing says so.

A host that lost its power, or a cable that was pulled, ends no connection: whoever waits for it
waits for ever. Keepalive asks an end that is silent; the user timeout bounds how long what was
sent may stay unacknowledged, for which Linux by itself takes a quarter of an hour, and asks no
keepalive meanwhile (tcp(7)).
"""

import socket
from typing import Protocol

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
