"""Servers that other processes take the place of."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.job_servers import OUR_GEARMAND, Address, GearmandProcess
from tests.peer import Peer
from tests.waiting import LIMIT, await_true


def run_reload(
    process: int, *options: str, program: tuple[str, ...] = tuple(OUR_GEARMAND[1:])
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *program, "--reload", str(process), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT)


class Server:
    """A server and those that take its place; ``pid`` is the one that serves now.

    ``connect``: how it is asked which that is.
    """

    def __init__(
        self,
        process: GearmandProcess,
        program: tuple[str, ...],
        connect: Callable[[Address], Peer] = Peer,
    ) -> None:
        self.process, self._program, self._connect = process, program, connect
        self.address = process.listening()
        self.pid = process.process.pid

    def reload(self, *options: str) -> None:
        before = self.pid
        done = run_reload(before, *options, program=self._program)
        assert (done.returncode, done.stderr) == (0, "")
        self.pid = self.serving_process()
        assert self.pid != before

    def serving_process(self) -> int:
        with contextlib.closing(self._connect(self.address).socket) as connected:
            connected.sendall(b"getpid\r\n")
            return int(connected.recv(100).split()[1])

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        await_true(lambda: not Path(f"/proc/{self.pid}").exists())
