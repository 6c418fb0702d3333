"""What is known of where a peer is."""

import asyncio
import socket
from struct import Struct

UCRED = Struct("3i")  # unix(7)


def describe_origin(peer: socket.socket, transport: asyncio.Transport) -> list[str]:
    """The peer's port, or on a Unix socket its process and user; nothing once it is closed."""
    if peer.fileno() < 0:
        return []
    if peer.family == socket.AF_UNIX:
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        process, user, _ = UCRED.unpack(found)
        return [f"process {process}", f"user {user}"]
    address = transport.get_extra_info("peername")
    return [f"port {address[1]}"] if address else []
