"""Our clients at Perl's Gearman::Server (Debian's gearman-server), with Perl's worker there."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py import (
    AdminClient,
    AdminError,
    AsyncClient,
    Client,
    JobFailed,
    ProtocolError,
    SubmitError,
)
from tests.conftest import await_true
from tests.ports import reserve_port

SERVER = Path("/usr/bin/gearmand")  # the C one is in /usr/sbin
WORKER = Path(__file__).parent / "peers" / "worker.pl"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not SERVER.exists():
        pytest.skip("needs Debian's gearman-server")
    host, port = "127.0.0.1", reserve_port()
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        [str(SERVER), "-L", host, "-p", str(port)], stdout=quiet, stderr=quiet
    )
    worker = None
    try:
        await_true(lambda: _listens(host, port))
        worker = subprocess.Popen(["perl", str(WORKER), f"{host}:{port}"], stderr=quiet)
        with AdminClient(f"{host}:{port}") as admin:
            await_true(lambda: "perl_dies" in {row.name for row in admin.status() if row.workers})
        yield f"{host}:{port}"
    finally:
        for started in (server, worker):
            if started is not None:
                started.kill()
                started.wait()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def test_jobs_run(address: str) -> None:
    with Client(address, timeout=10) as client:
        assert client.do("perl_reverse", "abc") == b"cba"
        assert client.do("perl_reverse", "abc", unique=True) == b"cba"
        assert client.do_high("perl_wc", "a\nb\n") == b"2\n"
        words = [b"%03d" % number for number in range(300)]
        assert list(client.map("perl_reverse", words)) == [word[::-1] for word in words]
        with pytest.raises(JobFailed):
            client.do("perl_dies")
        handle = client.do_background("perl_nobody", "x")
        assert client.status(handle).known
        assert client.ping() < 10


def test_awaited_jobs_run(address: str) -> None:
    async def use() -> None:
        async with AsyncClient(address, timeout=10) as client:
            words = [b"%03d" % number for number in range(300)]
            found = [one async for one in client.map("perl_reverse", words)]
            assert found == [word[::-1] for word in words]
            assert await client.ping() < 10

    asyncio.run(use())


def test_what_that_server_lacks_is_told_in_its_words(address: str) -> None:
    with Client(address, timeout=10) as client:
        for submit in (client.do_low, client.do_low_background, client.do_high_background):
            with pytest.raises(SubmitError, match="CMD_submit_job_"):
                submit("perl_reverse", "x")
        with pytest.raises(SubmitError, match="Can't locate object method"):
            client.do_background("perl_reverse", "x", at=1)
        with pytest.raises(ProtocolError, match="refused to answer: Can't locate object method"):
            client.status_unique("u")
        assert client.do("perl_reverse", "abc") == b"cba", "and the connection stays"
    with AdminClient(address) as admin:
        assert admin.version().startswith("v")
        with pytest.raises(AdminError, match="unknown_command"):
            admin.jobs()
