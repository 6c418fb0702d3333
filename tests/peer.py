"""A raw connection to a job server, for tests of what goes over the wire."""

import socket
from pathlib import Path
from typing import Any

from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from tests.job_servers import Address
from tests.waiting import LIMIT


class Peer:
    """A raw connection to an address, or to a Unix socket."""

    def __init__(self, address: Address | Path) -> None:
        if isinstance(address, Path):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(LIMIT)
            self.socket.connect(str(address))
        else:
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
