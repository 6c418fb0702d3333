"""Who waits for a page does not wait for a job server that is known to say nothing."""

import asyncio
from contextlib import suppress

import pytest

from gearman_py import AdminClient
from gearman_py.net.servers import parse_servers
from gearman_py.web.collector import Collector
from gearman_py.web.history import History
from tests.job_servers import JobServer

pytestmark = pytest.mark.slow


def test_a_look_asks_the_others_and_waits_for_no_round(servers: list[JobServer]) -> None:
    asyncio.run(look_beside_a_silent_server(servers[0]))


async def look_beside_a_silent_server(server: JobServer) -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked.put_nowait(line)
        writer.close()

    hung = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = hung.sockets[0].getsockname()[1]
    addresses = [server.address, f"127.0.0.1:{port}"]
    with AdminClient(server.address) as admin:
        collector = Collector(parse_servers(addresses), History(None), 1.0)

        def paused() -> int:
            return collector.fleet.functions["f"].stats.paused

        admin.pause("f")
        await collector.look()
        assert [each.answers for each in collector.fleet.servers] == [True, False]
        assert paused()
        while not asked.empty():
            asked.get_nowait()

        admin.resume("f")
        await collector.look()
        assert not paused()
        assert asked.empty()

        rounds = asyncio.create_task(collector.run())
        await asked.get()
        before = collector.fleet.rounds
        admin.pause("f")
        await collector.look()
        assert paused()
        assert collector.fleet.rounds == before + 1, "the round still waits"
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds
    hung.close()
