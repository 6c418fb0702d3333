"""map() of Client and AsyncClient: order, errors, time and memory."""

import tracemalloc
from collections.abc import Iterator
from itertools import count, islice
from threading import Event
from typing import Any

import pytest

from gearman_py import Client, GearmanError, JobException, JobTimeout
from gearman_py.testing import Server
from tests.waiting import LIMIT


def test_map_gives_results_in_order(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        return [one async for one in client.map("nap", ["0.2", "0", "0.1"])]

    assert use(scenario) == [b"0.2", b"0", b"0.1"]


def test_map_gives_results_as_they_come(use: Any, gates: dict[bytes, Event]) -> None:
    async def scenario(client: Any) -> list[bytes]:
        found: list[bytes] = []
        gates[b"c"].set()
        async for one in client.map("gated", ["a", "b", "c"], ordered=False):
            found.append(one)
            gates[b"a" if found == [b"c"] else b"b"].set()
        return found

    assert use(scenario) == [b"c", b"a", b"b"]


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


def test_map_has_a_timeout(use: Any, gates: dict[bytes, Event]) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(JobTimeout, match="no next result of gated"):
            [one async for one in client.map("gated", ["a"], timeout=0.3)]

    use(scenario)


def test_map_of_nothing_is_nothing(use: Any) -> None:
    async def scenario(client: Any) -> list[bytes]:
        return [one async for one in client.map("upper", [])]

    assert use(scenario) == []


@pytest.mark.slow
def test_large_workloads_and_results_do_not_block_each_other(use: Any) -> None:
    async def scenario(client: Any) -> None:
        large = (bytes([number]) * 3_000_000 for number in range(65, 85))
        found = [one[:1] async for one in client.map("upper", large, in_flight=20)]
        assert b"".join(found) == b"ABCDEFGHIJKLMNOPQRST"

    use(scenario)


@pytest.mark.slow
def test_a_million_workloads_cost_what_is_in_flight(jobs: Server) -> None:
    with Client(jobs.address, timeout=LIMIT) as client:
        made = (b"x" * 1000 for _ in count())
        results = client.map("upper", made, in_flight=100)
        list(islice(results, 200))
        tracemalloc.start()
        for _ in islice(results, 5000):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000
