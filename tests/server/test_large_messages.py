"""Large messages, which are received where they stay: whole, in order, and however they end."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gearman_py.broker.broker import Broker
from gearman_py.broker.returning import FAREWELL
from gearman_py.event_loop import new_event_loop
from gearman_py.protocol.codec import LARGE, RESPONSE, Decoder, request
from gearman_py.protocol.packets import Packet
from gearman_py.server.connection import Connection
from gearman_py.server.listener import Listener
from gearman_py.server.workload_receiver import OTHERS, READ_SIZE, WorkloadReceiver
from tests.waiting import LIMIT

LOOPS = [new_event_loop, asyncio.new_event_loop]
both_loops = pytest.mark.parametrize("new_loop", LOOPS, ids=["uvloop", "asyncio"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LONG = bytes(range(256)) * 2**13  # 2 MiB
MESSAGE = request(Packet.ECHO_REQ, LONG)


class Conversation:
    """A listener in this process and its only peer."""

    def __init__(self, listener: Listener, peer: socket.socket) -> None:
        self.listener, self.peer = listener, peer
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(RESPONSE)

    @property
    def connection(self) -> Connection:
        (found,) = self.listener.connections.values()
        return cast(Connection, found)

    def is_receiving(self) -> bool:
        """Whether what the peer sends is received where it stays, if it is a large message."""
        return isinstance(self.connection.transport.get_protocol(), WorkloadReceiver)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.peer, data)

    async def await_true(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():  # noqa: ASYNC110 - a listener knows no events
                await asyncio.sleep(0)

    async def await_held(self, size: int) -> None:
        await self.await_true(lambda: self.connection.held_bytes() >= size)

    async def hear(self, number: int) -> list[bytes]:
        """The contents of the next answers."""
        heard: list[bytes] = []
        async with asyncio.timeout(LIMIT):
            while len(heard) < number:
                data = await self._loop.sock_recv(self.peer, 2**18)
                assert data, "the server closed the connection"
                heard += [arguments[0] for _, arguments in self._decoder.feed(data)]
        return heard


@asynccontextmanager
async def converse(path: Path | None = None, **options: Any) -> AsyncIterator[Conversation]:
    loop = asyncio.get_running_loop()
    listener = Listener(Broker(), loop, **options)
    connect = partial(Connection, listener)
    if path is None:
        server = await loop.create_server(connect, "127.0.0.1", 0)
    else:
        server = await loop.create_unix_server(connect, str(path))
    listening = server.sockets[0]
    with socket.socket(listening.family) as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, listening.getsockname())
        conversation = Conversation(listener, peer)
        await conversation.await_true(lambda: bool(listener.connections))
        yield conversation
    server.close()
    await conversation.await_true(lambda: not listener.connections)


def run(new_loop: NewLoop, scenario: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


@both_loops
@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
def test_they_are_whole_and_in_order_among_small_ones(
    new_loop: NewLoop, tmp_path: Path, *, unix: bool
) -> None:
    sizes = [0, LARGE, 3, len(LONG), len(LONG), *[7] * 40, READ_SIZE, READ_SIZE + 1, 1, 3 * LARGE]
    sent = [LONG[-size:] * (size > 0) for size in sizes]

    async def scenario() -> None:
        async with converse(tmp_path / "socket" if unix else None) as conversation:
            wire = b"".join(request(Packet.ECHO_REQ, each) for each in sent)
            sending = asyncio.ensure_future(conversation.send(wire))
            assert await conversation.hear(len(sent)) == sent
            await sending
            assert conversation.connection.held_bytes() == 0

    run(new_loop, scenario)


@both_loops
def test_a_peer_that_sends_small_ones_again_is_read_from_as_others(new_loop: NewLoop) -> None:
    async def scenario() -> None:
        async with converse() as conversation:
            assert not conversation.is_receiving()
            await conversation.send(MESSAGE[:READ_SIZE])
            await conversation.await_held(READ_SIZE)
            assert conversation.is_receiving(), "where it stays"
            await conversation.send(MESSAGE[READ_SIZE:])
            assert await conversation.hear(1) == [LONG]
            for number in range(OTHERS + 2):
                await conversation.send(request(Packet.ECHO_REQ, b"%d" % number))
                assert await conversation.hear(1) == [b"%d" % number]
            assert not conversation.is_receiving()

    run(new_loop, scenario)


@both_loops
@pytest.mark.parametrize("reset", [False, True], ids=["ends", "resets"])
def test_a_peer_may_leave_amid_one(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture, *, reset: bool
) -> None:
    async def scenario() -> None:
        async with converse() as conversation:
            await conversation.send(MESSAGE[:READ_SIZE])
            await conversation.await_held(READ_SIZE)
            if reset:
                linger = struct.pack("ii", 1, 0)
                conversation.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            conversation.peer.close()
            await conversation.await_true(lambda: not conversation.listener.connections)

    with caplog.at_level(logging.WARNING):
        run(new_loop, scenario)
    assert not caplog.records


@both_loops
def test_it_is_neither_read_nor_lost_while_its_peer_must_wait(new_loop: NewLoop) -> None:
    async def scenario() -> None:
        async with converse() as conversation:
            await conversation.send(MESSAGE[:READ_SIZE])
            await conversation.await_held(READ_SIZE)
            connection = conversation.connection
            connection.pause_peer()
            await conversation.send(MESSAGE[READ_SIZE : READ_SIZE + LARGE])
            for _ in range(10):
                await asyncio.sleep(0)
            assert connection.held_bytes() == READ_SIZE
            connection.resume_peer()
            await conversation.send(MESSAGE[READ_SIZE + LARGE :])
            assert await conversation.hear(1) == [LONG]

    run(new_loop, scenario)


@both_loops
def test_a_client_that_is_let_go_amid_one_is_told_and_heard_out(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with converse() as conversation:
            await conversation.send(request(Packet.OPTION_REQ, b"resubmits") + MESSAGE[:READ_SIZE])
            await conversation.hear(1)
            await conversation.await_held(READ_SIZE)
            conversation.connection.leave_client()
            await conversation.send(MESSAGE[READ_SIZE:])
            loop = asyncio.get_running_loop()
            said = b""
            while data := await loop.sock_recv(conversation.peer, 2**16):
                said += data
            assert said == FAREWELL
            conversation.peer.close()

    with caplog.at_level(logging.WARNING):
        run(new_loop, scenario)
    assert not caplog.records
