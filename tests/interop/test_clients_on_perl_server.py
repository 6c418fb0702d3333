"""Our clients at Perl's Gearman::Server (Debian's gearman-server), with Perl's worker there."""

import asyncio
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
from tests.interop.conftest import registered
from tests.job_servers import Address, running_process
from tests.waiting import LIMIT, await_true

WORKER = Path(__file__).parent / "peers" / "worker.pl"


@pytest.fixture(scope="module")
def address(perl_server: Address) -> Iterator[str]:
    host, port = perl_server
    with running_process(["perl", str(WORKER), f"{host}:{port}"]):
        await_true(lambda: "perl_dies" in registered(perl_server))
        yield f"{host}:{port}"


def test_jobs_run(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
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
        async with AsyncClient(address, timeout=LIMIT) as client:
            words = [b"%03d" % number for number in range(300)]
            found = [one async for one in client.map("perl_reverse", words)]
            assert found == [word[::-1] for word in words]
            assert await client.ping() < 10

    asyncio.run(use())


def test_what_that_server_lacks_is_told_in_its_words(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
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
