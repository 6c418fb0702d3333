"""Fixtures that pytest finds where this package is installed. They cost nothing until used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gearman_py.client.sync import Client
    from gearman_py.testing import Server


@pytest.fixture
def gearman_server() -> Iterator["Server"]:
    """A job server of ours in this process; ``gearman_server.address`` is where."""
    from gearman_py import testing

    with testing.server() as server:
        yield server


@pytest.fixture
def gearman_client(gearman_server: "Server") -> Iterator["Client"]:
    """A client of ``gearman_server`` that waits ten seconds for a result."""
    from gearman_py.client.sync import Client

    with Client(gearman_server.address, timeout=10) as client:
        yield client
