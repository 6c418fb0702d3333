"""One AsyncClient or AsyncAdminClient in several event loops, consecutive and concurrent."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from gearman_py import AsyncAdminClient, AsyncClient, ConnectionLost, GearmanError, Worker
from gearman_py.admin.client import AdminClient
from tests.waiting import await_true

LIMIT = 60.0


@pytest.fixture
def address(shared_gearmand: Any, serve_worker: Any) -> str:
    worker = Worker(shared_gearmand.address)
    worker.add_function("loops-echo", lambda job: job.workload)
    serve_worker(worker)
    return str(shared_gearmand.address)


def test_one_client_in_consecutive_loops(address: str) -> None:
    client = AsyncClient(address, timeout=LIMIT)
    for word in (b"a", b"b", b"c"):
        assert asyncio.run(client.do("loops-echo", word)) == word


def test_one_client_in_the_loops_of_two_threads(address: str) -> None:
    client, meet = AsyncClient(address, timeout=LIMIT), threading.Barrier(2, timeout=LIMIT)
    heard: list[list[bytes]] = []

    async def use() -> None:
        meet.wait()
        heard.append([await client.do("loops-echo", b"%d" % number) for number in range(200)])
        meet.wait()

    threads = [threading.Thread(target=asyncio.run, args=[use()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert heard == [[b"%d" % number for number in range(200)]] * 2


def test_a_job_of_another_loop_is_lost_at_once(address: str) -> None:
    client, first = AsyncClient(address, timeout=LIMIT), asyncio.new_event_loop()
    job = first.run_until_complete(client.submit("loops-unserved"))

    async def take_all() -> None:
        async for _ in client.as_completed([job]):
            pass

    for ask in (job.result, lambda: client.wait([job]), take_all):
        with pytest.raises(ConnectionLost, match=f"another event loop; job {job.handle}"):
            asyncio.run(ask())
    assert asyncio.run(client.status(job)).known
    first.run_until_complete(first.shutdown_asyncgens())
    first.close()
    with pytest.raises(ConnectionLost, match="its event loop has ended"):
        asyncio.run(job.result())


def test_the_connection_of_a_closed_loop_ends(gearmand: Any) -> None:
    client, admin = AsyncClient(gearmand.address), AsyncAdminClient(gearmand.address)

    async def use() -> None:
        await client.ping()
        await admin.version()

    for _ in range(5):
        asyncio.run(use())
    with AdminClient(gearmand.address) as other:
        await_true(lambda: len(other.workers()) == 1)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # asyncio's, for such loops
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_connection_of_a_loop_closed_without_a_shutdown_ends(gearmand: Any) -> None:
    client, admin = AsyncClient(gearmand.address), AsyncAdminClient(gearmand.address)
    loops = []
    for _ in range(3):
        loops.append(asyncio.new_event_loop())
        loops[-1].run_until_complete(client.ping())
        loops[-1].run_until_complete(admin.version())
        loops[-1].close()
    lost = asyncio.new_event_loop()
    job = lost.run_until_complete(client.submit("loops-unserved"))
    lost.close()
    with pytest.raises(ConnectionLost, match=f"another event loop; job {job.handle}"):
        asyncio.run(job.result())

    async def use() -> None:
        await client.ping()
        await admin.version()

    asyncio.run(use())  # another loop uses them: the connections of closed ones are ended
    with AdminClient(gearmand.address) as other:
        await_true(lambda: len(other.workers()) == 1)
    del loops, lost, job
    gc.collect()  # the warnings come in here


def test_an_admin_client_in_several_loops(address: str) -> None:
    admin = AsyncAdminClient(address)
    versions = [asyncio.run(admin.version()) for _ in range(3)]
    assert len(set(versions)) == 1

    async def use() -> None:
        await asyncio.gather(*(admin.version() for _ in range(5)))  # the lock is waited for

    for _ in range(2):
        asyncio.run(use())


@pytest.mark.parametrize("options", [{"background": True}, {"at": 4_000_000_000}])
def test_background_jobs_are_refused_where_a_result_is_needed(
    gearmand: Any, options: dict[str, Any]
) -> None:
    async def use() -> None:
        async with AsyncClient(gearmand.address) as client:
            for ask in (client.do("f", **options), client.call("f", 1, **options)):
                with pytest.raises(GearmanError, match="in the background"):
                    await ask
            with pytest.raises(GearmanError, match="in the background"):
                client.map("f", [], **options)

    asyncio.run(use())
    with AdminClient(gearmand.address) as admin:
        assert admin.status() == []
