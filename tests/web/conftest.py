"""A dashboard of two job servers with two users: alice operates, bob reads."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job_servers import JobServer
from tests.web.operators import log_in
from tests.web.site import Site, running_site
from tests.web.test_access import add_user


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    assert add_user(path, "alice", "--role", "operate") == ""
    assert add_user(path, "bob") == ""
    return path


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[JobServer]]:
    """Two job servers."""
    both = []
    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            server = JobServer(tmp_path / name)
            server.start()
            stack.callback(server.stop)
            both.append(server)
        yield both


@pytest.fixture
def site(tmp_path: Path, servers: list[JobServer], users: Path) -> Iterator[Site]:
    hosts = ",".join(server.address for server in servers)
    options = ("-h", hosts, "--users", str(users), "--audit-log", str(tmp_path / "audit"))
    with running_site(tmp_path, *options) as site:
        log_in(site, "alice")
        site.await_round()
        yield site
