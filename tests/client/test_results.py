"""Client.result: the result of a background job, by its handle."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gearman_py import Client, JobException, JobTimeout, ServerUnavailable, UnknownJob
from gearman_py.testing import Server, server
from tests.ports import reserve_port


def test_a_result_is_awaited_and_fetched_again(
    use: Callable[..., Any], gates: dict[bytes, threading.Event]
) -> None:
    async def scenario(client: Any) -> None:
        handle = await client.do_background("gated", b"a")
        for _ in range(3):  # the server is asked once
            with pytest.raises(JobTimeout, match=rf"^no result of gated .*{handle}"):
                await client.result(handle, timeout=0.01)
        assert (await client.status(handle))[::6] == (True,)
        gates[b"a"].set()
        assert await client.result(handle) == b"a"
        assert await client.result(handle, timeout=0) == b"a", "it is there already"
        status = await client.status(handle)
        assert (status.known, status.outcome) == (False, "complete")

    use(scenario)


def test_why_a_job_failed_is_told_whenever_it_is_asked(use: Callable[..., Any]) -> None:
    async def scenario(client: Any) -> None:
        handle = await client.do_background("odd", b"2")
        for _ in range(2):
            with pytest.raises(JobException, match="odd failed: ValueError: 2 is even"):
                await client.result(handle)
        assert (await client.status(handle)).outcome == "failed"

    use(scenario)


def test_what_is_unknown_is_an_error_of_its_own(use: Callable[..., Any]) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(UnknownJob, match="job H:none:1 is unknown: it has never existed"):
            await client.result("H:none:1")
        assert (await client.status("H:none:1")).outcome is None

    use(scenario)


def test_all_servers_are_asked(use: Callable[..., Any], jobs: Server) -> None:
    with server() as other:
        silent = f"127.0.0.1:{reserve_port()}"

        async def scenario(client: Any) -> None:
            with Client(jobs.address) as submitter:
                handle = submitter.do_background("upper", b"a")
            assert await client.result(handle) == b"A"

        async def nobody_knows(client: Any) -> None:
            with pytest.raises(
                ServerUnavailable, match=f"{silent}.*job H:x is unknown at 2 others"
            ):
                await client.result("H:x")

        use(scenario, servers=[other.address, jobs.address])
        use(nobody_knows, servers=[silent, other.address, jobs.address])
