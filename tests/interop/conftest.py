"""Other people's Gearman, and ours, as processes on free ports of the loopback address."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provision.lab import programs as local
from tests.job_servers import (
    C_GEARMAND,
    OUR_GEARMAND,
    Address,
    await_listening,
    running_process,
    running_server,
)
from tests.ports import reserve_port
from tests.tasks import PEERS
from tests.waiting import LIMIT, await_true


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
    with running_server([*C_GEARMAND, "--verbose=INFO"], folder) as address:
        yield address


@pytest.fixture(scope="session")
def our_gearmand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where our gearmand listens."""
    folder = tmp_path_factory.mktemp("our-gearmand")
    with running_server([*OUR_GEARMAND, "-v"], folder) as address:
        yield address


@pytest.fixture(scope="session")
def perl_server() -> Iterator[Address]:
    """Where Perl's Gearman::Server listens (Debian's gearman-server; C's is in /usr/sbin)."""
    address = ("127.0.0.1", reserve_port())
    with running_process(["/usr/bin/gearmand", "-L", address[0], "-p", str(address[1])]) as server:
        await_listening(address, server)
        yield address


@pytest.fixture
def serving() -> Iterator[Callable[[list[str], Address, str], None]]:
    """Starts a worker program and waits until the server at that address lists the function."""
    running = []

    def start(command: list[str], address: Address, function: str) -> None:
        running.append(running_process(command))
        running[-1].__enter__()
        await_true(lambda: function in registered(address))

    yield start
    for started in running:
        started.__exit__(None, None, None)


def registered(address: Address) -> list[str]:
    """The functions that workers of a server can do now."""
    return [name for name, workers in count_workers(address).items() if workers]


def count_workers(address: Address) -> dict[str, int]:
    """The number of workers of each function that a server knows."""
    with socket.create_connection(address, LIMIT) as connection:
        connection.sendall(b"status\r\n")
        answer = b""
        while not answer.endswith(b".\n"):
            answer += connection.recv(2**16)
    rows = [row.decode().split("\t") for row in answer.splitlines()[:-1]]
    return {name: int(workers) for name, _, _, workers in rows}
