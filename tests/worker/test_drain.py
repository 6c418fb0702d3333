"""A drain that begins at an awkward moment ends all the same."""

import asyncio

import pytest

from gearman_py import Worker
from gearman_py.protocol.codec import Decoder, response
from gearman_py.protocol.packets import Packet


def test_drain_between_a_grab_and_its_no_job_leaves_and_does_not_fall_asleep() -> None:
    async def scenario() -> None:
        grabbed = asyncio.Event()
        drained = asyncio.Event()

        async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            decoder = Decoder()
            while data := await reader.read(1000):
                if any(packet == Packet.GRAB_JOB_UNIQ for packet, _ in decoder.feed(data)):
                    grabbed.set()
                    await drained.wait()
                    writer.write(response(Packet.NO_JOB))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer_late, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        worker = Worker(f"{host}:{port}")
        worker.add_function("f", lambda job: None)
        serving = asyncio.create_task(worker.serve())
        await grabbed.wait()
        worker.drain()
        drained.set()
        await asyncio.wait_for(serving, 5)
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


def test_server_whose_name_cannot_be_a_host_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(["x" * 70])
    worker.add_function("f", lambda job: b"")
    worker.work(timeout=3)
    assert caplog.text.count("UnicodeError") > 1, caplog.text
