"""Fixtures for pytest, available wherever this package is installed; free until used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gearman_py.client.sync import Client
    from gearman_py.testing import Server


@pytest.fixture
def gearman_server() -> Iterator["Server"]:
    """A job server in this process, at ``gearman_server.address``."""
    from gearman_py import testing

    with testing.server() as server:
        yield server


@pytest.fixture
def gearman_client(gearman_server: "Server") -> Iterator["Client"]:
    """A client of ``gearman_server`` with a timeout of 10 seconds."""
    from gearman_py.client.sync import Client

    with Client(gearman_server.address, timeout=10) as client:
        yield client
