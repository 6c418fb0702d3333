"""A job server that lies harms what is shown of itself alone."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py import Client
from tests.attacks import attack
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.site import running_site

pytestmark = pytest.mark.slow

PAGES = ("/", "/servers", "/functions", "/workers", "/jobs", "/failed", "/function?name=honest")
LIES = {
    "a number of 31 digits": (rb"waiting=\d+", b"waiting=1" + b"0" * 30),
    "a number of 5,000 digits": (rb"accepted=\d+", b"accepted=" + b"9" * 5000),
    "an endless wait": (rb"oldest_seconds=[\d.]+", b"oldest_seconds=inf"),
    "no number": (rb"wait_seconds=[\d.]+", b"wait_seconds=nan"),
    "a field without a value": (rb"running=\d+", b"running"),
    "no process": (rb"OK \d+\n", b"OK 1e3\n"),
}


class Liar:
    """Passes on what a job server says, but for what matches the ``lie``."""

    def __init__(self, port: int) -> None:
        self.lie: tuple[bytes, bytes] | None = None
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._opened: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._opened += peer, server
                for ends in ((peer, server), (server, peer)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**20):
                sink.sendall(re.sub(*self.lie, data) if self.lie else data)
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def liar(gearmand: JobServer) -> Iterator[Liar]:
    with Client(gearmand.address) as client:
        client.do_background("of-the-liar")
    liar = Liar(gearmand.port)
    yield liar
    liar.close()


@attack(
    "compromised host",
    "end or falsify the dashboard of all by what its job server counts",
    "mended",
)
def test_the_other_server_is_shown_and_this_one_is_said_to_make_no_sense(
    tmp_path: Path, liar: Liar, shared_gearmand: JobServer
) -> None:
    with Client(shared_gearmand.address) as client:
        client.do_background("honest")
    with running_site(tmp_path, "-h", liar.address, "-h", shared_gearmand.address) as site:

        def shown() -> bool:
            return "of-the-liar" in site.page("/functions").text

        await_true(shown)
        for what, liar.lie in LIES.items():
            await_true(lambda: not shown())
            for page in PAGES:
                assert site.get(page).status == 200, f"{what}: {page}"
            assert "honest" in site.page("/functions").text, what
            liar.lie = None
            await_true(shown)
        liar.lie = rb"started\t[\d.]+", b"started\t1e300"
        await_true(lambda: "1970-01-01" in site.page("/servers").text)
        log = site.log.read_text()
    assert "Traceback" not in log
    assert "the history cannot be written" not in log
