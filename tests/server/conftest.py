"""Servers and connections that end with their test."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.job_servers import OUR_GEARMAND, Address, GearmandProcess
from tests.peer import Peer
from tests.server.reloaded import Server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GearmandProcess]]:
    """Starts servers on a free port of the loopback address; they end with the test."""
    with contextlib.ExitStack() as started:

        def begin(
            *arguments: str,
            program: Sequence[str] = (),
            before: Sequence[str] = (),
            **environment: str,
        ) -> GearmandProcess:
            words = ["-L", "127.0.0.1", "-p", "0", "-v", *arguments]
            server = GearmandProcess(words, tmp_path, before=before, program=program, **environment)
            return started.enter_context(server)

        yield begin


@pytest.fixture
def connect(start: Callable[..., GearmandProcess]) -> Iterator[Callable[..., Peer]]:
    """Makes connections, to one server with nothing special about it unless told where."""
    plain: list[Address] = []
    with contextlib.ExitStack() as opened:

        def begin(address: Address | None = None) -> Peer:
            if address is None and not plain:
                plain.append(start().listening())
            peer = Peer(address or plain[0])
            opened.callback(peer.socket.close)
            return peer

        yield begin


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server; the last that took its place ends with the test."""
    servers: list[Server] = []

    def begin(
        *arguments: str,
        program: tuple[str, ...] = tuple(OUR_GEARMAND[1:]),
        connect: Callable[[Address], Peer] = Peer,
    ) -> Server:
        words = ["-L", "127.0.0.1", "-p", "0", "-v", *arguments]
        servers.append(Server(GearmandProcess(words, tmp_path, program=program), program, connect))
        return servers[-1]

    yield begin
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        server.process.kill()
        server.process.process.wait()
