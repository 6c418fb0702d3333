"""Many jobs at once, jobs at a time, reduced jobs, values: for Client and AsyncClient."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

import pytest

from gearman_py import (
    JSON,
    AsyncClient,
    Client,
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    QueueFull,
    Submit,
    Worker,
    WorkerJob,
)
from gearman_py.admin.client import AdminClient
from gearman_py.testing import Server, running, server


@pytest.fixture(scope="module")
def jobs() -> Iterator[Server]:
    """A job server with a worker of four threads."""
    with server() as here:
        worker = Worker(here.address, concurrency=4, reducers=True)

        @worker.function("upper", workload=True)
        def upper(workload: bytes) -> bytes:
            return workload.upper()

        @worker.function("odd", workload=True)
        def odd(workload: bytes) -> bytes:
            if int(workload) % 2 == 0:
                raise ValueError(f"{workload.decode()} is even")
            return workload

        @worker.function("nap", workload=True)
        def nap(workload: bytes) -> bytes:
            time.sleep(float(workload))
            return workload

        @worker.function("sum", workload=True)
        def total(workload: bytes) -> bytes:
            return JSON.dumps(sum(JSON.loads(workload)))

        @worker.function("reducer")
        def reducer(job: WorkerJob) -> str:
            return job.reducer

        @worker.function("clock")
        def clock(job: WorkerJob) -> str:
            return str(time.time())

        with running(worker):
            yield here


class Sync:
    """A blocking client with awaitable methods, which return at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = Client(*arguments, **options)

    async def close(self) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("map", "as_completed"):
            return lambda *arguments, **options: _each(method(*arguments, **options))

        async def call(*arguments: Any, **options: Any) -> Any:
            return method(*arguments, **options)

        return call


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def result(job: Any) -> Any:
    found = job.result()
    return await found if isinstance(found, Awaitable) else found


@pytest.fixture(params=[Sync, AsyncClient], ids=["sync", "async"])
def use(request: pytest.FixtureRequest, jobs: Server) -> Callable[..., Any]:
    """Runs a coroutine function of a client."""

    def use(scenario: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        async def run() -> Any:
            client = request.param(jobs.address, **{"timeout": 10, **options})
            try:
                return await scenario(client)
            finally:
                await client.close()

        return asyncio.run(run())

    return use


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


def test_jobs_are_yielded_as_they_end(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        wanted = [Submit(function="nap", workload=seconds) for seconds in ("0.4", "0.2", "0")]
        submitted = await client.submit_many(wanted)
        return [await result(job) async for job in client.as_completed(submitted)]

    assert use(scenario) == [b"0", b"0.2", b"0.4"]


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
        assert await client.wait([quick], timeout=30) == ({quick}, set())
        assert await client.wait([quick, never], timeout=0.2) == ({quick}, {never})
        with pytest.raises(JobTimeout, match="1 job has not ended"):
            [job async for job in client.as_completed([quick, never], timeout=0.1)]

    use(scenario)


def test_map_gives_results_in_order(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        return [one async for one in client.map("nap", ["0.2", "0", "0.1"])]

    assert use(scenario) == [b"0.2", b"0", b"0.1"]


def test_map_gives_results_as_they_come(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        naps = ["0.4", "0", "0.2"]
        return [one async for one in client.map("nap", naps, ordered=False)]

    assert use(scenario) == [b"0", b"0.2", b"0.4"]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_reads_no_further_than_what_may_be_in_flight(use: Any, ordered: bool) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in count(1):
            yield str(read)

    async def scenario(client: Any) -> int:
        taken = 0
        async for _ in client.map("upper", endless(), in_flight=10, ordered=ordered):
            taken += 1
            assert read <= taken + 10
            if taken == 500:
                break
        return taken

    assert use(scenario) == 500


def test_map_raises_at_the_job_that_failed(use: Any) -> None:
    async def scenario(client: Any) -> None:
        found = []
        with pytest.raises(JobException, match="2 is even"):
            async for one in client.map("odd", map(str, range(1, 9))):
                found.append(one)  # noqa: PERF401  those before the error are kept
        assert found == [b"1"]

    use(scenario)


def test_map_yields_errors_on_request(use: Any) -> None:
    async def scenario(client: Any) -> list[Any]:
        odd = client.map("odd", ["1", "2", "3"], on_error="yield")
        return [type(one) if isinstance(one, GearmanError) else one async for one in odd]

    assert use(scenario) == [b"1", JobException, b"3"]


def test_map_has_a_timeout(use: Any) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(JobTimeout, match="no next result of nap"):
            [one async for one in client.map("nap", ["0", "5"], timeout=0.3)]

    use(scenario)


def test_map_of_nothing_is_nothing(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        return [one async for one in client.map("upper", [])]

    assert use(scenario) == []


def test_large_workloads_and_results_do_not_block_each_other(use: Any) -> None:
    async def scenario(client: Any) -> None:
        large = (bytes([number]) * 3_000_000 for number in range(65, 85))
        found = [one[:1] async for one in client.map("upper", large, in_flight=20)]
        assert b"".join(found) == b"ABCDEFGHIJKLMNOPQRST"

    use(scenario)


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


def test_a_million_workloads_cost_what_is_in_flight(jobs: Server) -> None:
    import tracemalloc

    with Client(jobs.address, timeout=10) as client:
        made = (b"x" * 1000 for _ in count())
        results = client.map("upper", made, in_flight=100)
        list(islice(results, 200))
        tracemalloc.start()
        for _ in islice(results, 5000):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_job_that_fails_is_a_failure_everywhere(use: Any) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(JobFailed):
            await client.do("odd", "2")

    use(scenario)


def test_invalid_jobs_are_refused_before_any_is_sent(jobs: Server) -> None:
    client = Client(jobs.address, timeout=10)
    with client, pytest.raises(TypeError, match="not int"):
        client.do("upper", 5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="unknown priority 'urgent'"):
        client.submit("upper", priority="urgent")  # type: ignore[arg-type]  # that is the point
    wrong = [Submit(function="batch-unsent", background=True)] * 600 + [Submit(function="")]
    with pytest.raises(ValueError, match="empty"):
        client.submit_many(wrong)
    with AdminClient(jobs.address) as admin:
        assert "batch-unsent" not in {row.name for row in admin.status()}
