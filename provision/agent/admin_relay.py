"""Joins a channel of the operator's machine to the admin socket of this host's job server.

It is sent alone, in place of link.py. Before it connects, it takes the rights of the socket's
folder: a link in place of the socket leads only where the job server's own user may go.
"""

from __future__ import annotations

import os
import select
import socket

CHUNK_SIZE = 1 << 16
PATH_LIMIT = 108  # bytes, unix(7)


def serve(incoming: int, outgoing: int) -> None:
    """Read the path, in a line; then pass on what comes, until either end is closed.

    If it cannot be connected to, the answer to the first command says why.
    """
    path = _read_line(incoming)
    try:
        joined = connect_as_owner(path)
    except OSError as error:
        text = f"ERR ADMIN_SOCKET {path}: {error.strerror}\r\n"
        _write_all(outgoing, text.replace("+", " ").encode(errors="replace"))
        return
    ends = {incoming: joined.fileno(), joined.fileno(): outgoing}
    while True:
        for end in select.select(list(ends), (), ())[0]:
            piece = os.read(end, CHUNK_SIZE)
            if not piece:
                return
            _write_all(ends[end], piece)


def connect_as_owner(path: str) -> socket.socket:
    """Connect, as the owner of the socket's folder if this is root. Raises OSError."""
    owner = os.stat(os.path.dirname(path))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def _read_line(incoming: int) -> str:
    line = b""
    while not line.endswith(b"\n") and len(line) <= PATH_LIMIT and (byte := os.read(incoming, 1)):
        line += byte
    return line.decode().rstrip("\n")


def _write_all(outgoing: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(outgoing, left) :]
