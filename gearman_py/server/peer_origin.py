"""What is known of where a peer is."""

import asyncio
import pwd
import socket

from gearman_py.broker.state import Peer
from gearman_py.net.abstract_socket import read_owner
from gearman_py.protocol.text import printable

UNIX = "unix"  # the address of a peer at a Unix socket
UNMAPPED = 65534  # user_namespaces(7)
THIS_HOST = "this host"


def name_operator(peer: Peer, at: socket.socket) -> str:
    """Who gives a command: the user or the address, after the id that the client gave itself."""
    place = _name_user(peer, at) or peer.address
    if peer.client_id == b"-":
        return f"a user of {place}" if place == THIS_HOST else place
    return f"{printable(peer.client_id).decode(errors='replace')} at {place}"


def _name_user(peer: Peer, at: socket.socket) -> str:
    """The user at the other end of a Unix socket; "" for another connection."""
    if at.fileno() < 0 or peer.address != UNIX:  # a relayed peer's user is not known
        return ""
    _, user = read_owner(at)
    if user == UNMAPPED:  # with PrivateUsers=yes systemd hides all but root and our own
        return THIS_HOST
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def describe_peer(peer: Peer, at: socket.socket, transport: asyncio.Transport) -> str:
    """A connection, as the log names it."""
    facts = [f"connection {peer.number}", *_describe_origin(peer, at, transport)]
    if peer.client_id != b"-":
        facts.append("id " + printable(peer.client_id).decode(errors="replace"))
    return f"{peer.address} ({', '.join(facts)})"


def _describe_origin(peer: Peer, at: socket.socket, transport: asyncio.Transport) -> list[str]:
    """The peer's port, or on a Unix socket its process and user; nothing once it is closed."""
    if at.fileno() < 0:
        return []
    if at.family == socket.AF_UNIX:
        process, user = read_owner(at)
        if peer.address == UNIX:
            return [f"process {process}", f"user {user}"]
        return [f"relayed by process {process}"]
    address = transport.get_extra_info("peername")
    return [f"port {address[1]}"] if address else []
