"""A server whose answer never ends: the client that asked stops in time, with little memory."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from gearman_py import AsyncAdminClient, ConnectionLost, JobTimeout
from gearman_py.admin import answer_reader
from gearman_py.admin.client import AdminClient
from tests.attacks import attack

Ask = Callable[[str, float], None]  # an address, and seconds that an answer may take


@contextmanager
def endless(piece: bytes, pause: float) -> Iterator[str]:
    def talk(line: socket.socket) -> None:
        with line, suppress(OSError):
            while True:
                line.sendall(piece)
                time.sleep(pause)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def ask_blocking(address: str, timeout: float) -> None:
    with AdminClient(address, timeout=timeout) as admin:
        admin.status()


def ask_async(address: str, timeout: float) -> None:
    async def go() -> None:
        async with AsyncAdminClient(address, timeout=timeout) as admin:
            await admin.status()

    asyncio.run(go())


@attack("compromised host", "an answer of a job server without end, to gearadmin", "mended")
@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
@pytest.mark.parametrize("piece", [b"x" * 4096, b"\n" * 4096, b"a\t1\t1\t1\n" * 500])
def test_an_answer_without_end_is_refused(
    ask: Ask, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_reader, "ANSWER_LIMIT", 1 << 20)
    with endless(piece, 0) as address, pytest.raises(ConnectionLost, match="an answer of more"):
        ask(address, 30.0)


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
def test_an_answer_that_drips_is_given_up_at_the_deadline(ask: Ask) -> None:
    with endless(b"x", 0.0005) as address, pytest.raises(JobTimeout, match=r"within 0\.5 s"):
        ask(address, 0.5)
