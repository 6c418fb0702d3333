"""Data before the result is passed on once and not kept; a unique is used until its job ends."""

import asyncio
import gc
import time
import tracemalloc
from typing import Any

import pytest

from gearman_py import AsyncClient, Client, JobException, Worker, WorkerJob

LIMIT = 60.0


@pytest.fixture
def address(shared_gearmand: Any, serve_worker: Any) -> str:
    worker = Worker(shared_gearmand.address)

    @worker.function("stream-count")
    def count(job: WorkerJob) -> bytes:
        for number in range(int(job.workload)):
            job.send_data(b"%d" % number)
            job.send_warning(b"w%d" % number)
        return b"end"

    @worker.function("stream-large")
    def large(job: WorkerJob) -> None:
        for _ in range(int(job.workload)):
            job.send_data(bytes(2**20))

    @worker.function("stream-fail")
    def fail(job: WorkerJob) -> None:
        job.send_data(b"part")
        raise ValueError("then this")

    serve_worker(worker)
    return str(shared_gearmand.address)


WANTED = [b"%d" % number for number in range(500)]


def test_parts_that_were_yielded_are_not_kept(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
        job = client.submit("stream-count", "500")
        assert list(job) == WANTED
        assert (job.data, job.result()) == ([], b"end")
        assert list(job) == []
        heard: list[bytes] = []
        job = client.submit("stream-count", "500", on_data=heard.append, on_warning=heard.append)
        assert job.result() == b"end"
        assert (heard[::2], job.data, job.warnings) == (WANTED, [], [])


def test_parts_after_an_early_exit_are_kept(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
        job = client.submit("stream-count", "500")
        assert job.result() == b"end"
        for part in job.stream():
            if part == b"99":
                break
        gc.collect()
        assert job.data == WANTED[100:]
        assert list(job.stream()) == WANTED[100:]


def test_parts_end_with_the_error(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
        parts = iter(client.submit("stream-fail"))
        assert next(parts) == b"part"
        with pytest.raises(JobException, match="then this"):
            next(parts)
        with pytest.raises(TimeoutError):
            next(client.submit("stream-unserved").stream(timeout=0.05))


def test_an_async_client_streams_the_same_parts(address: str) -> None:
    async def use() -> None:
        async with AsyncClient(address, timeout=LIMIT) as client:
            job = await client.submit("stream-count", "500")
            assert [part async for part in job] == WANTED
            assert (job.data, await job) == ([], b"end")
            parts = (await client.submit("stream-fail")).stream()
            assert await anext(parts) == b"part"
            with pytest.raises(JobException, match="then this"):
                await anext(parts)
            with pytest.raises(TimeoutError):
                await anext((await client.submit("stream-unserved")).stream(timeout=0.05))

    asyncio.run(use())


def test_a_callback_may_be_awaited(address: str) -> None:
    heard: list[bytes] = []

    async def hear(part: bytes) -> None:
        await asyncio.sleep(0)
        heard.append(part)

    async def use() -> None:
        async with AsyncClient(address, timeout=LIMIT) as client:
            assert await client.do("stream-count", "20", on_data=hear) == b"end"
            assert heard == WANTED[:20]
            results = client.map("stream-count", ["20"], on_data=hear)
            assert [one async for one in results] == [b"end"]
            assert heard == WANTED[:20] * 2
            jobs = await client.submit_many([])
            assert jobs == []

    asyncio.run(use())


@pytest.mark.parametrize("with_callback", [True, False])
def test_parts_wait_at_the_server_for_a_task_that_is_slow(
    address: str, with_callback: bool
) -> None:
    heard = 0

    async def hear(part: bytes) -> None:
        nonlocal heard
        heard += len(part)
        await asyncio.sleep(0.005)  # what it does with a part

    async def use() -> None:
        async with AsyncClient(address, timeout=LIMIT) as client:
            if with_callback:
                await client.do("stream-large", "100", on_data=hear)
                return
            async for part in await client.submit("stream-large", "100"):
                await hear(part)

    tracemalloc.start()
    try:
        asyncio.run(use())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard == 100 * 2**20
    assert peak < 25 * 2**20


def test_a_job_with_much_data_is_ends_for_a_task_that_polls(address: str) -> None:
    heard: list[bytes] = []

    async def use() -> None:
        async with AsyncClient(address, timeout=LIMIT) as client:
            job = await client.submit("stream-large", "20", on_data=heard.append)
            async with asyncio.timeout(LIMIT):
                while not job.done():  # noqa: ASYNC110  that is what is tested
                    await asyncio.sleep(0.01)
            await job
            assert sum(map(len, heard)) == 20 * 2**20

    asyncio.run(use())


def test_another_job_is_not_held_up_by_a_task_that_is_slow(address: str) -> None:
    async def use() -> None:
        async with AsyncClient(address, timeout=LIMIT) as client:
            parts = (await client.submit("stream-large", "20")).stream()
            first = await anext(parts)
            assert await client.do("stream-count", "0") == b"end"  # what comes before is read
            rest = [part async for part in parts]
            assert len(first) + sum(map(len, rest)) == 20 * 2**20

    asyncio.run(use())


def test_a_later_submission_of_a_unique_keeps_the_time_of_the_first(gearmand: Any) -> None:
    with Client(gearmand.address, timeout=LIMIT) as client:
        due = int(time.time()) + 3600
        first = client.submit("timed", b"first", unique="u", at=due)
        sooner = client.submit("timed", b"sooner", unique="u", at=due - 3590)
        now = client.submit("timed", b"now", unique="u")
        assert first.handle == sooner.handle == now.handle
        with pytest.raises(TimeoutError):
            now.result(timeout=0.1)
        assert client.status_unique("u").clients == 1


def test_a_job_that_submits_itself_again_needs_a_unique_of_its_own(
    gearmand: Any, serve_worker: Any
) -> None:
    ran: list[bytes] = []
    worker = Worker(gearmand.address)

    @worker.function("again")
    def again(job: WorkerJob) -> None:
        ran.append(job.workload)
        left = int(job.workload)
        with Client(gearmand.address, timeout=LIMIT) as client:
            # Its own is taken until it has ended: it would join itself.
            own = client.do_background("again", b"own", unique=job.unique)
            assert own == job.handle
            if left:
                client.do_background("again", str(left - 1), unique=f"again-{left - 1}", at=1)
                # As after a repeated run: it is the same job.
                client.do_background("again", str(left - 1), unique=f"again-{left - 1}", at=1)

    serve_worker(worker)
    with Client(gearmand.address, timeout=LIMIT) as client:
        client.do_background("again", "3", unique="again-3")
        client.do("again", "0", unique="last", timeout=LIMIT)
        deadline = time.monotonic() + LIMIT
        while sorted(ran) != [b"0", b"0", b"1", b"2", b"3"] and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(ran) == [b"0", b"0", b"1", b"2", b"3"]
