"""Servers and connections that end with their test."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GearmandProcess]]:
    """Starts servers on a free port of the loopback address; they end with the test."""
    with contextlib.ExitStack() as started:

        def begin(
            *arguments: str, program: Sequence[str] = (), **environment: str
        ) -> GearmandProcess:
            words = ["-L", "127.0.0.1", "-p", "0", "-v", *arguments]
            server = GearmandProcess(words, tmp_path, program=program, **environment)
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
