"""Other people's Gearman, and ours, as processes on free ports of the loopback address."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.lab import programs as local
from tasks import PEERS
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Address = tuple[str, int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session", autouse=True)
def peers_are_installed() -> None:
    """Without the peers these tests cannot run."""
    if missing := local.missing(PEERS):
        pytest.skip(f"needs Debian's {', '.join(missing)}")


@pytest.fixture(scope="session")
def c_gearmand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where a C gearmand listens."""
    folder = tmp_path_factory.mktemp("c-gearmand")
    with server(["/usr/sbin/gearmand", "--verbose=INFO"], folder) as address:
        yield address


@pytest.fixture(scope="session")
def our_gearmand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where our gearmand listens."""
    folder = tmp_path_factory.mktemp("our-gearmand")
    with server([sys.executable, "-m", "gearman_py.cli.gearmand", "-v"], folder) as address:
        yield address


@pytest.fixture(scope="session")
def perl_server() -> Iterator[Address]:
    """Where Perl's Gearman::Server listens (Debian's gearman-server; C's is in /usr/sbin)."""
    address = ("127.0.0.1", reserve_port())
    with process(["/usr/bin/gearmand", "-L", address[0], "-p", str(address[1])]) as started:
        await_true(lambda: started.poll() is not None or _listens(address))
        assert started.poll() is None, "Perl's Gearman::Server ended"
        yield address


@contextmanager
def server(command: list[str], folder: Path) -> Iterator[Address]:
    address = ("127.0.0.1", reserve_port())
    where = ["-L", address[0], "-p", str(address[1]), "-l", str(folder / "log")]
    with process([*command, *where]) as started:
        await_true(lambda: started.poll() is not None or _listens(address))
        assert started.poll() is None, (folder / "log").read_text()
        yield address


def _listens(address: Address) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def serving() -> Iterator[Callable[[list[str], Address, str], None]]:
    """Starts a worker program and waits until the server at that address lists the function."""
    running = []

    def start(command: list[str], address: Address, function: str) -> None:
        running.append(process(command))
        running[-1].__enter__()
        await_true(lambda: function in registered(address))

    yield start
    for started in running:
        started.__exit__(None, None, None)


def registered(address: Address) -> list[str]:
    """The functions that workers of a server can do now."""
    with socket.create_connection(address, LIMIT) as connection:
        connection.sendall(b"status\r\n")
        answer = b""
        while not answer.endswith(b".\n"):
            answer += connection.recv(2**16)
    rows = [row.decode().split("\t") for row in answer.splitlines()[:-1]]
    return [name for name, _, _, workers in rows if workers != "0"]


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()
