"""Reads what a job server answers to a command of Gearman's text protocol."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

ANSWER_LIMIT = 1 << 24  # bytes
ANSWER_TIMEOUT = 20.0  # seconds for all of an answer
UCRED = struct.Struct("3i")  # unix(7)


def ends_listing(said: bytes) -> bool:
    """Whether an answer of lines has come whole: its last one is a dot."""
    return said in (b".\n", b".\r\n") or said.endswith((b"\n.\n", b"\n.\r\n"))


def read_answer(
    connection: socket.socket,
    is_whole: Callable[[bytes], bool] = ends_listing,
    limit: int = ANSWER_LIMIT,
) -> bytes:
    """Raises OSError; ValueError if the answer is not whole, too late, or longer than ``limit``."""
    said, end = b"", time.monotonic() + ANSWER_TIMEOUT
    while not is_whole(said):
        piece = connection.recv(1 << 18)
        if not piece or len(said) > limit:
            raise ValueError("the answer of its job server ends in the middle")
        if time.monotonic() > end:
            raise ValueError(f"its job server takes more than {ANSWER_TIMEOUT:.0f} s to answer")
        said += piece
    return said


def connect_admin(path: str, seconds: float) -> socket.socket:
    """Connect to a job server's admin socket; it has ``seconds`` for each part of an answer.

    Raises OSError; ValueError if a link leads to a socket of another user.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        connection.connect(path)
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        if UCRED.unpack(found)[1] not in (0, os.stat(os.path.dirname(path)).st_uid):
            raise ValueError(f"{path} is not a socket of its folder's owner")
        return connection
    except BaseException:
        connection.close()
        raise
