"""What is known of where a peer is."""

import asyncio
import pwd
import socket
from struct import Struct

from gearman_py.broker.state import Peer
from gearman_py.protocol.text import printable

UCRED = Struct("3i")  # unix(7)


def name_operator(peer: Peer, at: socket.socket) -> str:
    """Who gives a command: the user or the address, after the id that the client gave itself."""
    place = _name_user(at) or peer.address
    if peer.client_id == b"-":
        return place
    return f"{printable(peer.client_id).decode(errors='replace')} at {place}"


def _name_user(peer: socket.socket) -> str:
    """The user at the other end of a Unix socket; "" for another connection."""
    if peer.fileno() < 0 or peer.family != socket.AF_UNIX:
        return ""
    _, user, _ = UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def describe_peer(peer: Peer, at: socket.socket, transport: asyncio.Transport) -> str:
    """A connection, as the log names it."""
    facts = [f"connection {peer.number}", *_describe_origin(at, transport)]
    if peer.client_id != b"-":
        facts.append("id " + printable(peer.client_id).decode(errors="replace"))
    return f"{peer.address} ({', '.join(facts)})"


def _describe_origin(peer: socket.socket, transport: asyncio.Transport) -> list[str]:
    """The peer's port, or on a Unix socket its process and user; nothing once it is closed."""
    if peer.fileno() < 0:
        return []
    if peer.family == socket.AF_UNIX:
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        process, user, _ = UCRED.unpack(found)
        return [f"process {process}", f"user {user}"]
    address = transport.get_extra_info("peername")
    return [f"port {address[1]}"] if address else []
