"""Peers that take too long, with a clock that the test moves."""

import asyncio
import itertools
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest

from gearman_py.broker.broker import Broker
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import Message, request
from gearman_py.protocol.packets import Packet
from gearman_py.server.connection import Connection
from gearman_py.server.listener import MANY_FUNCTIONS, TURN, Listener
from gearman_py.server.message_progress import SILENT_LIMIT
from tests.waiting import LIMIT

STALLED = 60.0


async def close_server(server: asyncio.Server, listener: Listener) -> None:
    """Close it with its connections."""
    server.close()
    for connection in list(listener.connections.values()):
        connection.transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("begun", "closed"),
    [
        (b"\0REQ\0\0", True),
        (b"stat", True),
        (request(Packet.ECHO_REQ, b"x" * 100)[:-1], True),
        (request(Packet.CAN_DO, b"f"), False),
        (b"", False),
    ],
    ids=["header", "line", "packet", "idle after a whole one", "idle from the start"],
)
def test_peer_that_stops_within_a_message_is_closed_and_an_idle_one_is_not(
    begun: bytes, closed: bool
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(Broker(), loop)
        server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request(Packet.ECHO_REQ, b"") + begun)
        await reader.readexactly(12)
        await listener.close_lost_peers()
        assert listener.connections, "it has some time"
        listener.now = lambda: loop.time() + SILENT_LIMIT + 1
        await listener.close_lost_peers()
        await asyncio.sleep(0)
        assert bool(listener.connections) is not closed
        writer.close()
        await close_server(server, listener)

    asyncio.run(scenario())


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2),
    reason="asyncio does not say when its buffer is full (CVE-2024-12254); uvloop does",
)
def test_peer_that_never_reads_what_it_is_owed_is_closed_if_that_is_asked_for() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(Broker(), loop, unread_timeout=STALLED)
        server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1)
        writer.write(request(Packet.ECHO_REQ, b"x" * 2**20) * 16)
        stalled = False
        while not stalled:
            await asyncio.sleep(0.001)
            stalled = any(one.unread_bytes() > 2**20 for one in listener.connections.values())
        await listener.close_lost_peers()
        assert listener.connections, "it has some time"
        listener.now = lambda: loop.time() + 1
        await listener.close_lost_peers()  # the first look sees how much is unread
        listener.now = lambda: loop.time() + STALLED + 3
        await listener.close_lost_peers()
        await asyncio.sleep(0)
        assert not listener.connections
        writer.close()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(scenario())


@pytest.mark.parametrize(("rate", "closed"), [(100, True), (2000, False)])
def test_peer_that_sends_a_message_by_drops_is_closed(rate: int, closed: bool) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(Broker(), loop)
        server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        message = request(Packet.ECHO_REQ, bytes(2**20))
        writer.write(message[:-500_000])
        sent = len(message) - 500_000
        begins = loop.time()
        listener.now = lambda: begins
        for _ in range(4 if closed else 10):
            while held(listener) < sent:  # noqa: ASYNC110 - the listener knows no events
                await asyncio.sleep(0.001)
            await listener.close_lost_peers()
            begins += 10
            writer.write(message[sent : sent + 10 * rate])
            sent += 10 * rate
        await listener.close_lost_peers()
        await asyncio.sleep(0)
        assert bool(listener.connections) is not closed
        writer.close()
        await close_server(server, listener)

    asyncio.run(scenario())


def held(listener: Listener) -> int:
    return sum(one.held_bytes() for one in listener.connections.values())


@pytest.mark.parametrize(("flood", "functions"), [(2_000, 0), (50, MANY_FUNCTIONS + 1)])
def test_peer_that_floods_does_not_hold_the_others(
    monkeypatch: pytest.MonkeyPatch, flood: int, functions: int
) -> None:
    """Both have spoken before the server reads, which it does once: the other is heard before the
    flood is over. For a worker with many functions, each packet may take long."""
    heard: list[Peer] = []

    class Listening(Broker):
        def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> Sequence[Message]:
            heard.extend([peer] * len(messages))
            return super().receive(peer, messages, now)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        broker = Listening()
        listener = Listener(broker, loop)
        server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as loud, socket.create_connection(address) as quiet:
            loud.sendall(b"".join(request(Packet.CAN_DO, b"f%d" % n) for n in range(functions)))
            while len(broker.peers) < 2 or len(heard) < functions:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            heard.clear()
            loud.sendall(request(Packet.GRAB_JOB) * flood)
            quiet.sendall(request(Packet.ECHO_REQ, b""))
            while len(heard) < flood + 1:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            await close_server(server, listener)
        first, last = heard[0], heard[-1]
        assert heard.count(first) == flood, "the loud one is read first"
        assert last is first, "the quiet one was heard in between"

    monkeypatch.setattr("gearman_py.server.listener.TURN", 0.0, raising=False)
    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "rows", "least_parts"),
    [
        (b"show jobs", 5000, 11),
        (b"status", 5000, 21),
        (b"stats", 5001, 21),
        (b"jobs waiting limit=1000", 1000, 13),
        (b"jobs waiting limit=1 offset=4999", 1, 11),
        (b"jobs scheduled limit=1 unique=later", 1, 11),
    ],
)
def test_listings_of_many_operators_share_one_turn(
    monkeypatch: pytest.MonkeyPatch, command: bytes, rows: int, least_parts: int
) -> None:
    """Each look at the clock takes a third of a turn. The parts of listings are counted, the first
    and those of sorting and searching too."""
    times = itertools.count(0, TURN / 3)
    clock = SimpleNamespace(monotonic=times.__next__, time=time.time)
    monkeypatch.setattr("gearman_py.server.listener.time", clock)
    parts = Counter[int]()  # by turn of the loop
    turn = [0]

    class Counted(Connection):
        def go_on(self) -> None:
            parts[turn[0]] += 1
            super().go_on()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def count_turn() -> None:
            turn[0] += 1
            loop.call_soon(count_turn)

        broker = Broker()
        listener = Listener(broker, loop)
        server = await loop.create_server(partial(Counted, listener), "127.0.0.1", 0)
        client = broker.join(0, "")
        unlisted = command.startswith(b"jobs scheduled")
        for number in range(5000):
            job = (Packet.SUBMIT_JOB_BG, [b"f%d" % number, b"", b""])
            broker.receive(client, [] if unlisted else [job], 0)
        for number in range(5000 if unlisted else 0):
            unique = b"later" if number == 4000 else b"%d" % number
            job = (Packet.SUBMIT_JOB_EPOCH, [b"f", unique, b"4102444800", b""])
            broker.receive(client, [job], 0)
        loop.call_soon(count_turn)
        address = server.sockets[0].getsockname()
        peers = [await asyncio.open_connection(*address, limit=2**23) for _ in range(6)]
        for _, writer in peers:
            writer.write(command + b"\n")
        for reader, writer in peers:
            listing = await reader.readuntil(b"\n.\n")
            assert listing.count(b"\n") == rows + 1
            writer.close()
        await close_server(server, listener)

    asyncio.run(scenario())
    assert sum(parts.values()) >= 6 * least_parts
    assert max(parts.values()) <= 3


def test_large_results_are_weighed_between_two_looks_at_the_memory() -> None:
    """They come together, while little of the memory is used: no more is read than there is room
    for, as far as known, and the rest once there is room again."""
    mib = 2**20
    limit, used = 110 * mib, 20 * mib  # so that there is room for three results
    arrived: list[bytes] = []

    async def receive(reader: asyncio.StreamReader) -> bytes:
        _, kind, size = struct.unpack(">4sII", await reader.readexactly(12))
        body = await reader.readexactly(size)
        if kind == Packet.WORK_COMPLETE:
            arrived.append(body)
        return body

    async def receive_all(reader: asyncio.StreamReader) -> None:
        while len(arrived) < 8:
            await receive(reader)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener(Broker(), loop)
        server = await loop.create_server(partial(Connection, listener), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        client, submitting = await asyncio.open_connection(*address)
        workers = []
        for number in range(8):
            function = b"f%d" % number
            reader, writer = await asyncio.open_connection(*address)
            submitting.write(request(Packet.SUBMIT_JOB, function, b"", b""))
            await receive(client)
            writer.write(request(Packet.CAN_DO, function) + request(Packet.GRAB_JOB))
            handle = (await receive(reader)).partition(b"\0")[0]
            workers.append((writer, request(Packet.WORK_COMPLETE, handle, bytes(10 * mib))))
        listener.share_memory(used, limit)
        for writer, result in workers:
            writer.write(result)
        receiving = loop.create_task(receive_all(client))
        async with asyncio.timeout(LIMIT):
            for waiting in 5, 2, 0:
                while (  # noqa: ASYNC110 - nothing tells of it
                    len(arrived) < 8 - waiting or len(arrived) + len(listener.budget.waiting) < 8
                ):
                    await asyncio.sleep(0)
                assert (len(listener.budget.waiting), len(arrived)) == (waiting, 8 - waiting)
                listener.share_memory(used, limit)
        await receiving
        for writer, _ in (*workers, (submitting, b"")):
            writer.close()
        await close_server(server, listener)

    asyncio.run(scenario())


def test_what_many_clients_are_owed_is_written_in_turns() -> None:
    """A job that a thousand clients wait for may have data of megabytes."""

    async def main() -> list[int]:
        broker = Broker()
        listener = Listener(broker, asyncio.get_running_loop())
        for number in range(100):
            broker.join(number, "").send(b"", bytes(2**20))
        bystander = broker.join(99, "")
        bystander.send(b"x")
        left = [len(broker.dirty)]
        while broker.dirty:
            listener.flush()
            assert bystander not in broker.dirty
            left.append(len(broker.dirty))
        return left

    left = asyncio.run(main())
    assert max(before - after for before, after in pairwise(left)) <= 32
