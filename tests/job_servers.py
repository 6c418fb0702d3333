"""Job servers as processes of their own, on loopback: ours, and other people's."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gearman_py.admin.client import AdminClient
from tests.forked import command_of, start_tool
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Address = tuple[str, int]

OUR_GEARMAND = command_of("gearmand")
C_GEARMAND = ["/usr/sbin/gearmand"]


@contextmanager
def running_process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    if command[: len(OUR_GEARMAND)] == OUR_GEARMAND:
        process = start_tool("gearmand", *command[len(OUR_GEARMAND) :], stdin=subprocess.DEVNULL)
    else:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_server(command: Sequence[str], folder: Path) -> Iterator[Address]:
    """A job server with the options of gearmand, ours or C's, on a free port; its log in folder."""
    address = ("127.0.0.1", reserve_port())
    where = ["-L", address[0], "-p", str(address[1]), "-l", str(folder / "log")]
    with running_process([*command, *where]) as process:
        await_listening(address, process)
        yield address


def await_listening(address: Address, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process takes connections; an AssertionError if it ends instead."""
    await_true(lambda: process.poll() is not None or is_listening(address))
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"


def is_listening(address: Address) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return False
    return True


class GearmandProcess:
    """Our gearmand; ``log`` is what it has written to stderr so far. It may be used as a context.

    ``before``: the words of a command that runs it. ``program``: what Python is to run. Without
    them it may be forked.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        *,
        before: Sequence[str] = (),
        program: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self._log = folder / "gearmand.log"
        with self._log.open("w") as log:
            options: dict[str, Any] = {
                "env": {**os.environ, **environment},
                "stderr": log,
                "start_new_session": True,
            }
            if before or program:
                command = [*before, sys.executable, *(program or OUR_GEARMAND[1:]), *arguments]
                self.process = subprocess.Popen(command, **options)
            else:
                self.process = start_tool("gearmand", *arguments, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.process.wait()

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


class JobServer:
    """Our gearmand, which may be stopped and started; ``address`` (host:port) stays the same."""

    def __init__(self, folder: Path) -> None:
        self.port = reserve_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._process: GearmandProcess | None = None

    def start(self, *options: str) -> None:
        where = ["-L", "127.0.0.1", "-p", str(self.port), "-v"]
        self._process = GearmandProcess([*options, *where], self._folder)
        self._process.listening()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.process.pid

    def workers_of(self, function: str) -> int:
        with AdminClient(self.address) as admin:
            return sum(row.workers for row in admin.status() if row.name == function)

    def running(self, function: str) -> int:
        with AdminClient(self.address) as admin:
            return sum(row.running for row in admin.status() if row.name == function)
