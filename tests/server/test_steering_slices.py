"""Steering many jobs of one function does not delay those of another: between two parts of its work
the server goes on with others."""

import asyncio
import itertools
import time
from functools import partial
from types import SimpleNamespace

import pytest

from gearman_py.broker.admin_commands import PART_ROWS
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from gearman_py.server.connection import Connection
from gearman_py.server.listener import TURN, Listener
from tests.server.test_listener import close_server

JOBS = 5000
PARTS = JOBS // PART_ROWS


def make_broker() -> Broker:
    """A broker with JOBS waiting jobs of f and of g, and as many that failed, of h."""
    broker = Broker(queues=Queues(b"H:test", failed=FailedJobs(JOBS)))
    client, worker = broker.join(0, ""), broker.join(0, "")
    broker.receive(worker, [(Packet.CAN_DO, [b"h"])], 0)
    for _ in range(JOBS):
        jobs = [(Packet.SUBMIT_JOB_BG, [name, b"", b""]) for name in (b"f", b"g", b"h")]
        broker.receive(client, jobs, 0)
        broker.receive(worker, [(Packet.GRAB_JOB, [])], 0)
        (handle,) = worker.running
        broker.receive(worker, [(Packet.WORK_FAIL, [handle])], 0)
    return broker


async def count_jobs_beside(command: bytes, rows: int) -> int:
    """How many jobs of g are given out and end, one after the other, until a command's answer."""
    loop = asyncio.get_running_loop()
    listener = Listener(make_broker(), loop)
    server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    operator, commands = await asyncio.open_connection(*address, limit=2**23)
    worker, results = await asyncio.open_connection(*address)
    decoder, done = Decoder(RESPONSE), 0
    results.write(request(Packet.CAN_DO, b"g"))
    commands.write(command + b"\n")
    answer = asyncio.create_task(operator.readuntil(b".\n"))
    while not answer.done():
        results.write(request(Packet.GRAB_JOB))
        ((packet, (handle, *_)),) = decoder.feed(await worker.read(2**16))
        assert packet == Packet.JOB_ASSIGN
        results.write(request(Packet.WORK_COMPLETE, handle, b""))
        done += 1
    assert (await answer).count(b"\n") == rows + 1
    for writer in (commands, results):
        writer.close()
    await close_server(server, listener)
    return done


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (b"purge f", JOBS),
        (b"discard jobs function=h reason=none", 0),
        (b"jobs waiting function=f limit=5000", JOBS),
        (b"jobs failed limit=5000", JOBS),
    ],
)
def test_jobs_of_another_function_run_between_the_parts(
    monkeypatch: pytest.MonkeyPatch, command: bytes, rows: int
) -> None:
    """Each look at the clock takes most of a turn, so that each part is a turn of its own. In one
    piece the answer comes after two or three jobs."""
    times = itertools.count(0, 0.7 * TURN)
    clock = SimpleNamespace(monotonic=times.__next__, time=time.time)
    monkeypatch.setattr("gearman_py.server.listener.time", clock)
    assert asyncio.run(count_jobs_beside(command, rows)) >= PARTS // 2
