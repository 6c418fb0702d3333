"""Acknowledging what a peer sent at once, as it may not send more until then.

Without an answer, the kernel waits 40 ms before it sends an acknowledgement. For so long, a worker
without TCP_NODELAY (gear, node-gearman) delays its GRAB_JOB after WORK_COMPLETE, and libgearman,
whose send buffer of 32 KiB is less than a segment of the loopback device, pauses after each 32 KiB.
"""

import socket


def acknowledge_now(connection: socket.socket) -> None:
    """Acknowledge what has come so far (tcp(7), TCP_QUICKACK)."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
