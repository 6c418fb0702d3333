"""Commands of an operator, `invoke deploy` and its like, as processes of their own."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]

_servers: list[socket.socket] = []


@contextmanager
def serve_commands() -> Iterator[None]:
    """Commands that begin meanwhile are forked from a process that has imported the toolkit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.lab.fork_server", str(theirs.fileno())]
    with (
        ours,
        subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        ) as server,
    ):
        theirs.close()
        _servers.append(ours)
        try:
            yield
        finally:
            _servers.remove(ours)
            ours.close()
            server.wait()


class Command:
    """A command that runs, with what subprocess.Popen has. Its input is empty."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        """``stdout``, ``stderr``: descriptors; else both are read together at ``self.stdout``."""
        self.returncode: int | None = None
        read, write = os.pipe()
        self._answers, answer = socket.socketpair()
        request = {
            "arguments": ["--search-root", str(ROOT), *arguments],
            "environment": dict(os.environ if environment is None else environment),
        }
        with open(os.devnull, "rb") as nothing, answer:
            output = write if stdout is None else stdout
            error = output if stderr is None else stderr
            descriptors = [nothing.fileno(), output, error, answer.fileno()]
            socket.send_fds(_servers[-1], [json.dumps(request).encode()], descriptors)
        os.close(write)
        self.stdout: IO[str] = os.fdopen(read, encoding="utf-8", errors="replace")
        self._lines = self._answers.makefile("r")
        self.pid = int(self._lines.readline())

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("invoke", timeout or 0)
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        deadline = None if timeout is None else time.monotonic() + timeout
        said = self.stdout.read()
        self.stdout.close()
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
        return said, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, with what it said."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        with Command(
            *arguments,
            environment={**os.environ, **environment},
            stdout=output.fileno(),
            stderr=error.fileno(),
        ) as command:
            status = command.wait()
        said = [_text_of(each) for each in (output, error)]
    return subprocess.CompletedProcess(arguments, status, *said)


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
