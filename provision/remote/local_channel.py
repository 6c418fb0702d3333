"""The agent on this machine, over a pipe: as on a host, without SSH."""

import os
import select
import subprocess

from provision.errors import Unreachable


class LocalChannel:
    """A channel to a command that runs here."""

    def __init__(self, line: str) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert self.process.stdin  # noqa: S101  # for mypy: both are pipes
        assert self.process.stdout  # noqa: S101
        self._in, self._out = self.process.stdin, self.process.stdout

    def send(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._in.fileno(), left) :]
        except (OSError, ValueError) as error:
            raise Unreachable("pipe: lost") from error

    def receive(self, seconds: float) -> bytes:
        if not select.select([self._out], [], [], seconds)[0]:
            raise TimeoutError
        return os.read(self._out.fileno(), 1 << 16)

    def close(self) -> None:
        self._in.close()
        self._out.close()  # who still writes is told
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
