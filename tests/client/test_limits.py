"""Invalid options are refused at once; the size of packets and of pending results is limited."""

import asyncio
import json
import pickle
from typing import Any

import pytest

from gearman_py import (
    ArgumentTooLarge,
    AsyncClient,
    Client,
    GearmanError,
    ResultTooLarge,
    Retry,
    Serializer,
    Submit,
    Worker,
    WorkerJob,
)
from gearman_py.admin.client import AdminClient
from tests.waiting import LIMIT, await_true

MOST = 100_000


@pytest.fixture
def address(shared_gearmand: Any, serve_worker: Any) -> str:
    worker = Worker(shared_gearmand.address)

    @worker.function("limits-size")
    def size(job: WorkerJob) -> bytes:
        return bytes(int(job.workload))

    @worker.function("limits-data")
    def data(job: WorkerJob) -> bytes:
        job.send_data(bytes(int(job.workload)))
        return b"end"

    worker.add_function("limits-echo", lambda job: job.workload)
    serve_worker(worker)
    return str(shared_gearmand.address)


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


async def settled(given: Any) -> Any:
    """The outcome of a call of either client."""
    return await given if hasattr(given, "__await__") else given


async def everything(given: Any) -> list[Any]:
    return [one async for one in given] if hasattr(given, "__aiter__") else list(given)


@pytest.mark.parametrize("function", ["limits-size", "limits-data"])
def test_a_result_over_the_limit_fails_its_job_and_no_other(
    kind: Any, address: str, function: str
) -> None:
    overhead = len("H:vm:1795937607301264") + 40

    async def use() -> None:
        client = kind(address, timeout=LIMIT, max_packet=MOST)
        for size in (MOST + 1, 5_000_000):
            wanted = [
                Submit(function=function, workload=str(n)) for n in (9, size, MOST - overhead)
            ]
            jobs = await settled(client.submit_many(wanted))
            with pytest.raises(ResultTooLarge, match=rf"over the limit of {MOST}, max_packet") as e:
                await settled(jobs[1].result())
            assert e.value.job is jobs[1]
            for job, length in ((jobs[0], 9), (jobs[2], MOST - overhead)):
                answer = await settled(job.result())
                assert length in (len(answer), len(b"".join(job.data)))
        await settled(client.close())

    asyncio.run(use())


def test_a_job_over_the_limit_is_refused_before_it_is_sent(kind: Any, address: str) -> None:
    async def use() -> None:
        client = kind(address, timeout=LIMIT, max_packet=MOST)
        fits = MOST - len("limits-echo") - 2
        assert await settled(client.do_background("limits-size", b"0".zfill(fits)))
        with pytest.raises(ArgumentTooLarge, match=f"max_packet={MOST}"):
            await settled(client.do("limits-size", b"0".zfill(fits + 1)))
        with pytest.raises(ArgumentTooLarge):
            await settled(client.submit("limits-echo", bytes(fits), unique="u"))
        for ordered in (True, False):
            given = [b"a", bytes(MOST), b"b"]
            results = client.map("limits-echo", given, on_error="yield", ordered=ordered)
            found = await everything(results)
            assert sorted(one for one in found if isinstance(one, bytes)) == [b"a", b"b"]
            assert [type(one) for one in found].count(ArgumentTooLarge) == 1
        await settled(client.close())

    asyncio.run(use())


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
def test_map_limits_the_bytes_of_pending_results(
    kind: Any, gearmand: Any, serve_worker: Any, ordered: bool
) -> None:
    made, worker = 0, Worker(gearmand.address)

    @worker.function("large")
    def large(job: WorkerJob) -> bytes:
        nonlocal made
        made += 1
        return bytes(2**20)

    serve_worker(worker)

    def idle() -> bool:
        with AdminClient(gearmand.address) as admin:
            return all(not row.total for row in admin.status() if row.name == "large")

    async def use() -> None:
        client, taken = kind(gearmand.address, timeout=LIMIT), 0
        results = client.map("large", [b"x"] * 60, in_flight_bytes=8 * 2**20, ordered=ordered)
        each = results.__aiter__().__anext__ if kind is AsyncClient else results.__next__
        for _ in range(3):
            assert len(await settled(each())) == 2**20
            taken += 1
            await asyncio.to_thread(await_true, idle)
            assert made <= taken + 8
        assert len(await everything(results)) == 60 - taken
        await settled(client.close())

    asyncio.run(use())


def test_map_counts_large_workloads_too(kind: Any, address: str) -> None:
    read = 0

    def workloads() -> Any:
        nonlocal read
        while read < 40:
            read += 1
            yield bytes(2**20)

    async def use() -> None:
        client = kind(address, timeout=LIMIT)
        for_each = client.map("limits-echo", workloads(), in_flight_bytes=8 * 2**20)
        step = for_each.__aiter__().__anext__ if kind is AsyncClient else for_each.__next__
        for taken in range(1, 41):
            await settled(step())
            assert read <= taken + 5  # a workload of 1 MiB has a result of 1 MiB
        await settled(client.close())

    asyncio.run(use())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_packet": 0},
        {"max_packet": 2**32},
        {"connect_timeout": 0},
        {"submit_timeout": -1},
        {"timeout": -1},
        {"on_lost": "again"},
        {"prefix": "a\0b"},
    ],
    ids=str,
)
def test_invalid_options_are_refused_at_once(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind("127.0.0.1", **wrong)


@pytest.mark.parametrize("wrong", [{"retry": 3}, {"serializer": "json"}], ids=str)
def test_options_of_a_wrong_type_are_refused_at_once(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        kind("127.0.0.1", **wrong)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first": -1.0}, {"most": -1.0}], ids=str)
def test_a_retry_tries_at_least_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"1 or more|0 seconds"):
        Retry(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"in_flight": 0},
        {"in_flight_bytes": 0},
        {"on_error": "ignore"},
        {"priority": "urgent"},
        {"unique": "x" * 65},
        {"at": -1},
    ],
    ids=str,
)
def test_map_refuses_at_once_and_not_with_its_first_result(
    kind: Any, wrong: dict[str, Any]
) -> None:
    client = kind("127.0.0.1")
    with pytest.raises((ValueError, ArgumentTooLarge)):
        client.map("f", [], **wrong)
    with pytest.raises(GearmanError, match="background"):
        client.map("f", [], background=True)


def test_a_blocking_client_cannot_await_callbacks(address: str) -> None:
    async def heard(_: bytes) -> None: ...

    with Client(address) as client, pytest.raises(ValueError, match="AsyncClient"):
        client.submit("limits-echo", on_data=heard)


def test_methods_with_a_priority_take_the_options_of_do(kind: Any, address: str) -> None:
    async def use() -> None:
        client = kind(address, timeout=LIMIT)
        for do in (client.do_high, client.do_low):
            with pytest.raises(TimeoutError):
                await settled(do("limits-unserved", timeout=0.01))
            assert await settled(do("limits-echo", b"x", unique="u", on_warning=print)) == b"x"
            with pytest.raises(TypeError, match="priority"):
                await settled(do("limits-echo", b"x", priority="low"))
        for do in (client.do_high_background, client.do_low_background):
            assert await settled(do("limits-unserved", value=[1])) != ""
        await settled(client.close())

    asyncio.run(use())


class Text:
    """A serializer whose parameters have other names."""

    def dumps(self, thing: Any) -> bytes:
        return f"<{thing}>".encode()

    def loads(self, raw: bytes) -> Any:
        return raw.decode()


SERIALIZERS: list[Serializer] = [Text(), pickle]


@pytest.mark.parametrize(("serializer", "given", "back"), [(SERIALIZERS[0], 1, "<1>")])
def test_values_work_with_every_method(
    kind: Any, address: str, serializer: Serializer, given: Any, back: Any
) -> None:
    async def use() -> None:
        client = kind(address, timeout=LIMIT, serializer=serializer)
        assert await settled(client.call("limits-echo", given)) == back
        job = await settled(client.submit("limits-echo", value=given))
        assert await settled(job.value()) == back
        (many,) = await settled(client.submit_many([Submit(function="limits-echo", value=given)]))
        assert await settled(many.value()) == back
        assert await everything(client.call_map("limits-echo", [given] * 2)) == [back] * 2
        assert await settled(client.do_background("limits-echo", value=given))
        with pytest.raises(ValueError, match="a workload or a value"):
            await settled(client.submit("limits-echo", b"x", value=given))
        await settled(client.close())

    asyncio.run(use())


def test_values_are_json_by_default(kind: Any, address: str) -> None:
    async def use() -> None:
        client = kind(address, timeout=LIMIT)
        job = await settled(client.submit("limits-echo", value={"a": None}))
        assert (json.loads(job.workload), await settled(job.value())) == ({"a": None},) * 2
        nothing = await settled(client.submit("limits-echo", value=None))
        assert (nothing.workload, await settled(nothing.value())) == (b"null", None)
        await settled(client.close())

    asyncio.run(use())


@pytest.mark.slow
def test_a_lower_limit_of_the_server_is_reported(kind: Any, gearmand: Any) -> None:
    large = bytes(70_000_000)

    async def use() -> None:
        client = kind(gearmand.address, timeout=60, submit_timeout=60, max_packet=250_000_000)
        with pytest.raises(ArgumentTooLarge, match="over the limit of 67108864"):
            await settled(client.do_background("large", large))
        await asyncio.to_thread(gearmand.stop)  # the event loop sees the connection end
        await asyncio.to_thread(gearmand.start, "--max-packet", "250000000")
        assert await settled(client.do_background("large", large))
        await settled(client.close())

    asyncio.run(use())


@pytest.mark.slow
def test_what_all_three_allow_goes_both_ways(kind: Any, gearmand: Any, serve_worker: Any) -> None:
    gearmand.stop()
    gearmand.start("--max-packet", "250000000")
    worker = Worker(gearmand.address, max_packet=250_000_000)
    worker.add_function("large", lambda job: job.workload)
    serve_worker(worker)
    large = bytes(80_000_000)

    async def use() -> None:
        client = kind(gearmand.address, timeout=60, submit_timeout=60, max_packet=250_000_000)
        assert await settled(client.do("large", large)) == large
        await settled(client.close())

    asyncio.run(use())
