"""What comes on a connection that was passed on, before there is anyone to read it.

A transport reads from its first moment on: uvloop's cannot be paused before that.
"""

import asyncio
from typing import cast


class EarlyInput(asyncio.Protocol):
    """Keeps what arrives until another protocol takes its place."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False  # the peer sends no more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._transport.pause_reading()  # the rest can wait where it is

    def eof_received(self) -> bool:
        self.ended = True
        return True  # do not close it yet
