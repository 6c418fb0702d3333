"""Reads what a job server answers to a command of Gearman's text protocol."""

from __future__ import annotations

import socket
from collections.abc import Callable

ANSWER_LIMIT = 1 << 24  # bytes


def ends_listing(said: bytes) -> bool:
    """Whether an answer of lines has come whole: its last one is a dot."""
    return said in (b".\n", b".\r\n") or said.endswith((b"\n.\n", b"\n.\r\n"))


def read_answer(
    connection: socket.socket,
    is_whole: Callable[[bytes], bool] = ends_listing,
    limit: int = ANSWER_LIMIT,
) -> bytes:
    """Raises OSError; ValueError if the answer is not whole, or longer than ``limit``, in bytes."""
    said = b""
    while not is_whole(said):
        piece = connection.recv(1 << 18)
        if not piece or len(said) > limit:
            raise ValueError("the answer of its job server ends in the middle")
        said += piece
    return said
