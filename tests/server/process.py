"""A job server in a process of its own, and peers that speak to it over real sockets."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from tests.waiting import LIMIT, await_true

Address = tuple[str, int]


class GearmandProcess:
    """gearmand as a command; ``log`` is what it said on stderr so far.

    ``before``: the words of a command that runs it. ``program``: what Python is to run.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        *,
        before: Sequence[str] = (),
        program: Sequence[str] = ("-m", "gearman_py.cli.gearmand"),
        **environment: str,
    ) -> None:
        self._log = folder / "gearmand.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, *program, *arguments],
                env={**os.environ, **environment},
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it and its children with SIGKILL: a server under strace outlives strace."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def listening(self) -> Address:
        """Where it listens, once it does."""
        await_true(lambda: "listens on" in self.log or self.process.poll() is not None)
        found = re.search(r"listens on (\S+) port (\d+)", self.log)
        assert found, self.log
        return found[1], int(found[2])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def memory(self) -> int:
        """The most bytes that were ever resident."""
        return self._status("VmHWM")

    def resident(self) -> int:
        """The bytes that are resident now."""
        return self._status("VmRSS")

    def _status(self, line: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{line}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


class Peer:
    """A raw connection to a server."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, LIMIT)
        self._decoder = Decoder(RESPONSE)
        self._heard: list[tuple[int, list[bytes]]] = []

    def say(self, packet: Packet, *arguments: bytes) -> None:
        self.socket.sendall(request(packet, *arguments))

    def hear(self) -> tuple[Any, ...]:
        """The next packet; fails when the server closes instead."""
        while not self._heard:
            data = self.socket.recv(2**16)
            assert data, "the server closed the connection"
            self._heard += self._decoder.feed(data)
        number, arguments = self._heard.pop(0)
        return (Packet(number).name, *arguments)

    def ask(self, packet: Packet, *arguments: bytes) -> tuple[Any, ...]:
        self.say(packet, *arguments)
        return self.hear()

    def command(self, line: str) -> bytes:
        """A text command's answer."""
        self.socket.sendall(line.encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\n") or (
            answer[:3] not in (b"OK ", b"OK\r", b"ERR") and not answer.endswith(b".\n")
        ):
            data = self.socket.recv(2**16)
            assert data, "the server closed the connection"
            answer += data
        return answer

    def closed(self) -> bool:
        """Whether the server has closed, or closes now; what it still says is thrown away."""
        try:
            while self.socket.recv(2**16):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True
