"""AsyncAdminClient: the answers of AdminClient, and its own errors."""

import asyncio
import socket
from typing import Any

import pytest

from gearman_py import (
    AdminClient,
    AdminError,
    AsyncAdminClient,
    Client,
    ConnectionLost,
    JobTimeout,
    ServerUnavailable,
)

SAME = ("status", "priority_status", "jobs", "unique_jobs", "version", "pid", "verbose")


def test_every_question_has_the_same_answer(gearmand: Any) -> None:
    async def scenario() -> list[object]:
        async with AsyncAdminClient(gearmand.address) as admin:
            await admin.create_function("made")
            await admin.max_queue("made", 5)
            assert any(row.functions == () for row in await admin.workers())
            assert await admin.ping() < 30
            return [await getattr(admin, name)() for name in SAME]

    with Client(gearmand.address) as client, AdminClient(gearmand.address) as admin:
        client.do_high_background("f", unique="key")
        found = asyncio.run(scenario())
        assert found == [getattr(admin, name)() for name in SAME]


def test_methods_are_those_of_admin_client() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncAdminClient) == public(AdminClient)


def test_jobs_are_cancelled_and_functions_dropped(gearmand: Any) -> None:
    async def scenario(handle: str) -> None:
        async with AsyncAdminClient(gearmand.address) as admin:
            with pytest.raises(AdminError):
                await admin.drop_function("f")
            await admin.cancel(handle)
            with pytest.raises(ValueError, match="separates words by spaces"):
                await admin.cancel("two words")
            assert await admin.jobs() == []

    with Client(gearmand.address) as client:
        asyncio.run(scenario(client.do_background("f")))


def test_many_tasks_share_a_client(gearmand: Any) -> None:
    async def scenario() -> None:
        async with AsyncAdminClient(gearmand.address) as admin:
            answers = await asyncio.gather(*(admin.pid() for _ in range(20)), admin.status())
            assert len({str(answer) for answer in answers}) == 2

    asyncio.run(scenario())


def test_errors_are_raised(gearmand: Any) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            async with AsyncAdminClient(address, timeout=0.1) as admin:
                with pytest.raises(JobTimeout, match="did not answer within"):
                    await admin.version()
        async with AsyncAdminClient(address) as admin:
            with pytest.raises(ServerUnavailable, match=address):
                await admin.version()
        async with AsyncAdminClient(gearmand.address) as admin:
            await admin.version()
            gearmand.stop()
            with pytest.raises(ConnectionLost):
                await admin.version()

    asyncio.run(scenario())
