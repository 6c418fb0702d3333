"""The agent's end of the conversation: frames, and the loop that does what they say.

The agent arrives as source, runs as root and is never on disk; so, in this folder: the
standard library alone, and Python 3.9. This file and probe.py are all that a plan sends; a
deploy sends files.py and change.py after them, through ``load``.
"""

from __future__ import annotations

import json
import os
import select
import struct
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

CHUNK_SIZE = 1 << 18
LENGTHS = struct.Struct(">IQ")
HEADER_LIMIT = 1 << 26
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_PAGER": "cat",
    "SYSTEMD_COLORS": "0",
    "PIP_CONFIG_FILE": os.devnull,
}


class Gone(Exception):
    """The operator's side has closed, or was silent for too long."""


class FrameLink:
    """Frames from and to the operator's side, over two file descriptors.

    ``patience``: seconds of silence that count as a dead connection. None: any.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.patience: float | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._buffer = bytearray()
        self._heard = time.monotonic()

    def send(self, header: dict[str, Any]) -> None:
        # A name that is not UTF-8 has "?" where it is not.
        encoded = json.dumps(header, ensure_ascii=False).encode(errors="replace")
        left = memoryview(LENGTHS.pack(len(encoded), 0) + encoded)
        try:
            while left:
                left = left[os.write(self._outgoing, left) :]
        except OSError as error:
            raise Gone from error

    def receive(self) -> tuple[dict[str, Any], int]:
        """The next header, and how many bytes of content follow it. Pings are only heard."""
        while True:
            length, size = LENGTHS.unpack(self.read(LENGTHS.size))
            if length > HEADER_LIMIT:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(self.read(length))
            if header["do"] != "ping":
                return header, size

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self.wait()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.read(min(size, CHUNK_SIZE))
            size -= len(piece)
            yield piece

    def wait(self, other: int | None = None, seconds: float | None = None) -> bool:
        """Until something came, here or at ``other``, or time is up. Was it at ``other``?

        Raises :class:`Gone`; so a command that runs meanwhile can be stopped at once.
        """
        if self.patience is not None:
            left = self._heard + self.patience - time.monotonic()
            seconds = max(left, 0) if seconds is None else min(seconds, max(left, 0))
        sources = [self._incoming] if other is None else [self._incoming, other]
        ready = select.select(sources, [], [], seconds)[0]
        if self._incoming in ready:
            piece = os.read(self._incoming, CHUNK_SIZE)
            if not piece:
                raise Gone
            self._buffer += piece
            self._heard = time.monotonic()
        elif self.patience is not None and time.monotonic() - self._heard >= self.patience:
            raise Gone
        return other in ready


def load_module(link: FrameLink, header: dict[str, Any], size: int) -> None:
    """Take more commands: a module's source, run in memory."""
    module = types.ModuleType(header["module"])
    sys.modules[module.__name__] = module
    exec(compile(link.read(size), module.__name__, "exec"), module.__dict__)  # noqa: S102  # its purpose


COMMANDS: dict[str, Callable[[FrameLink, dict[str, Any], int], None]] = {"load": load_module}


def serve(incoming: int, outgoing: int) -> None:
    """Do what frames say until the operator's side is gone. A bug here is told, then fatal."""
    link = FrameLink(incoming, outgoing)
    try:
        while True:
            header, size = link.receive()
            COMMANDS[header["do"]](link, header, size)
    except Gone:
        pass
    except Exception:
        link.send({"crash": traceback.format_exc()})
