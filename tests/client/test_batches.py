"""Many jobs at once, jobs at a time, reduced jobs, values: for Client and AsyncClient."""

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from gearman_py import (
    JSON,
    Client,
    JobException,
    JobFailed,
    JobTimeout,
    QueueFull,
    Submit,
    Worker,
)
from gearman_py.admin.client import AdminClient
from gearman_py.testing import Server
from tests.waiting import LIMIT


async def result(job: Any) -> Any:
    found = job.result()
    return await found if isinstance(found, Awaitable) else found


@pytest.mark.slow
def test_thousands_are_submitted_in_order_and_come_back(use: Any) -> None:
    async def scenario(client: Any) -> None:
        wanted = [Submit(function="upper", workload=f"a{number}") for number in range(3000)]
        submitted = await client.submit_many(wanted)
        assert [await result(job) for job in submitted] == [
            f"A{number}".encode() for number in range(3000)
        ]
        numbers = [int(job.handle.rpartition(":")[2]) for job in submitted]
        assert numbers == sorted(numbers)

    use(scenario)


def test_one_refused_job_fails_by_itself(use: Any, jobs: Server) -> None:
    with AdminClient(jobs.address) as admin:
        admin.create_function("narrow")
        admin.value("maxqueue narrow 1")

    async def scenario(client: Any) -> None:
        wanted = [Submit(function="narrow", background=True) for _ in range(2)]
        wanted.append(Submit(function="upper", workload="x"))
        first, second, third = await client.submit_many(wanted)
        if first.error is None:
            with AdminClient(jobs.address) as admin:
                admin.cancel(first.handle)
        assert isinstance(second.error, QueueFull)
        assert await result(third) == b"X"

    use(scenario)


def test_jobs_are_yielded_as_they_end(use: Any, gates: dict[bytes, Event]) -> None:
    async def scenario(client: Any) -> list[bytes]:
        wanted = [Submit(function="gated", workload=each) for each in (b"a", b"b", b"c")]
        submitted = await client.submit_many(wanted)
        ended: list[bytes] = []
        gates[b"c"].set()
        async for job in client.as_completed(submitted):
            ended.append(await result(job))
            gates[b"a" if ended == [b"c"] else b"b"].set()
        return ended

    assert use(scenario) == [b"c", b"a", b"b"]


def test_jobs_that_have_ended_already_are_yielded_too(use: Any) -> None:
    async def scenario(client: Any) -> None:
        submitted = await client.submit_many([Submit(function="upper")] * 3)
        for job in submitted:
            await result(job)
        assert len([job async for job in client.as_completed(submitted)]) == 3

    use(scenario)


def test_waiting_for_jobs_has_a_limit(use: Any) -> None:
    async def scenario(client: Any) -> None:
        wanted = [Submit(function="upper"), Submit(function="unserved")]
        quick, never = await client.submit_many(wanted)
        assert await client.wait([quick], timeout=120) == ({quick}, set())
        assert await client.wait([quick, never], timeout=0.2) == ({quick}, {never})
        with pytest.raises(JobTimeout, match="1 job has not ended"):
            [job async for job in client.as_completed([quick, never], timeout=0.1)]

    use(scenario)


@pytest.mark.slow
def test_a_job_runs_at_its_time_and_not_before(use: Any, jobs: Server) -> None:
    async def scenario(client: Any) -> None:
        before = time.time()
        at = datetime.now(UTC) + timedelta(seconds=1)
        handle = await client.do_background("clocked", at=at)
        job = await client.submit("clocked", at=time.time() + 1)
        assert job.background
        assert (await client.status(handle)).known
        worker = Worker(jobs.address, max_jobs=2)
        seen: list[float] = []
        worker.add_function("clocked", lambda job: seen.append(time.time()))
        await asyncio.to_thread(worker.work, limit=2)
        assert all(moment >= before + 1 for moment in seen)

    use(scenario)


def test_a_worker_gets_the_reducer(use: Any) -> None:
    async def scenario(client: Any) -> bytes:
        return bytes(await client.do("reducer", reducer="put.together"))

    assert use(scenario) == b"put.together"


def test_jobs_without_a_packet_in_the_protocol_are_refused(use: Any) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(ValueError, match="at a time always has normal priority"):
            await client.submit("f", at=time.time(), priority="high")
        with pytest.raises(ValueError, match="with a reducer always has normal priority"):
            await client.submit("f", reducer="r", priority="low")
        with pytest.raises(ValueError, match="no packet for both"):
            await client.submit("f", reducer="r", at=1)
        with pytest.raises(ValueError, match="not a time since 1970"):
            await client.submit("f", at=-1)

    use(scenario)


def test_status_by_unique_counts_waiting_clients(use: Any) -> None:
    async def scenario(client: Any) -> None:
        for _ in range(2):
            await client.submit("waited-for", unique="shared")
        status = await client.status_unique("shared")
        assert (status.known, status.running) == (True, False)
        assert status.clients is not None
        assert status.clients >= 1
        assert not (await client.status_unique("unknown")).known

    use(scenario)


def test_values_go_as_json(use: Any) -> None:
    async def scenario(client: Any) -> None:
        assert await client.call("sum", [1, 2, 3]) == 6
        job = await client.submit("sum", JSON.dumps([4, 5]))
        value = job.value()
        assert (await value if isinstance(value, Awaitable) else value) == 9

    use(scenario)


def test_a_prefix_goes_before_functions_on_the_wire(use: Any, jobs: Server) -> None:
    async def scenario(client: Any) -> None:
        assert await client.do("per", "x") == b"X"

    use(scenario, prefix="up")


def test_exception_returns_why_a_job_failed(use: Any) -> None:
    async def scenario(client: Any) -> None:
        for workload, kind in (("2", JobException), ("1", type(None))):
            why = (await client.submit("odd", workload)).exception()
            assert type(await why if isinstance(why, Awaitable) else why) is kind

    use(scenario)


def test_a_job_that_fails_is_a_failure_everywhere(use: Any) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(JobFailed):
            await client.do("odd", "2")

    use(scenario)


def test_invalid_jobs_are_refused_before_any_is_sent(jobs: Server) -> None:
    client = Client(jobs.address, timeout=LIMIT)
    with client, pytest.raises(TypeError, match="not int"):
        client.do("upper", 5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="unknown priority 'urgent'"):
        client.submit("upper", priority="urgent")  # type: ignore[arg-type]  # that is the point
    wrong = [Submit(function="batch-unsent", background=True)] * 600 + [Submit(function="")]
    with pytest.raises(ValueError, match="empty"):
        client.submit_many(wrong)
    with AdminClient(jobs.address) as admin:
        assert "batch-unsent" not in {row.name for row in admin.status()}
