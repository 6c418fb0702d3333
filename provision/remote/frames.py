"""Frames to and from an agent, over a channel: see provision/remote/messages.py.

What the host says is never trusted to be whole, nor to come. A frame that breaks off, is too large
or comes late is an error that names the host and what was being done; nothing is read after it, as
what comes late would be taken for the answer to another question.
"""

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Any

from provision.errors import HostFailed, ToolkitError, Unreachable
from provision.remote.handshake import AgentChannel

CHUNK_SIZE = 1 << 18  # more at once makes paramiko copy the rest again for each packet
LENGTHS = struct.Struct(">IQ")
SLOWEST = 1 << 13  # bytes a second that a host takes of a file, for which it has a minute at least


class Frames:
    """A conversation with host ``name``; what it said already is ``before``.

    ``advice``: what to do when the host falls silent.
    """

    advice = ""

    def __init__(self, name: str, channel: AgentChannel, before: bytes) -> None:
        self.name = name
        self.closed = Event()
        self._channel = channel
        self._buffer = bytearray(before)
        self._sending = Lock()
        self._failed = False

    def close(self) -> None:
        self.closed.set()
        self._channel.close()

    def send(self, header: Mapping[str, Any], content: bytes = b"") -> None:
        if self._failed:
            raise Unreachable(f"{self.name}: it is not asked again after the earlier failure")
        encoded = json.dumps(header).encode()
        with self._sending:
            self._channel.send(LENGTHS.pack(len(encoded), len(content)) + encoded)
            for start in range(0, len(content), CHUNK_SIZE):
                self._channel.send(content[start : start + CHUNK_SIZE])

    def send_file(self, path: Path) -> None:
        with path.open("rb") as file, self._sending:
            left = path.stat().st_size
            end = time.monotonic() + max(60.0, left / SLOWEST)
            header = json.dumps({"do": "content"}).encode()
            self._channel.send(LENGTHS.pack(len(header), left) + header)
            while left:
                piece = file.read(min(CHUNK_SIZE, left))
                if not piece:
                    self.close()
                    raise ToolkitError(f"{path} became shorter while it was sent to {self.name}")
                if time.monotonic() > end:
                    self.close()
                    raise Unreachable(f"{self.name}: it receives {path.name} too slowly")
                self._channel.send(piece)
                left -= len(piece)

    def receive(self, limit: int, seconds: float, during: str) -> bytes:
        """The next header, of at most ``limit`` bytes. Raises :class:`ToolkitError`."""
        try:
            end = time.monotonic() + seconds
            length, size = LENGTHS.unpack(self._read(LENGTHS.size, end, seconds, during))
            if length > limit or size:
                what = "malformed" if size else "too long a"
                raise HostFailed(
                    f"{self.name}: {what} message from the agent while {during}{self.advice}"
                )
            return self._read(length, end, seconds, during)
        except ToolkitError:
            self._failed = True
            self.close()
            raise

    def _read(self, size: int, end: float, seconds: float, during: str) -> bytes:
        while len(self._buffer) < size:
            try:
                piece = self._channel.receive(max(end - time.monotonic(), 0))
            except TimeoutError:
                raise HostFailed(
                    f"{self.name}: no answer within {seconds:.0f} s while {during}"
                ) from None
            except Unreachable as lost:
                raise Unreachable(f"{lost} while {during}{self.advice}") from None
            if not piece:
                raise HostFailed(f"{self.name}: the agent was gone while {during}{self.advice}")
            self._buffer += piece
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken
